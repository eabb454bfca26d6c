"""What every ledger must do: inherit the contract in a test module and give it a ledger.

::

    class TestMyLedger(LedgerContract):
        @pytest.fixture
        def ledger(self, tmp_path):
            return MyLedger(tmp_path / "ledger.db")

One that is its own outbox inherits ``OutboxContract`` of :mod:`mlflow_pipes.testing.outbox_contract`, too.
"""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_pipes.model.run import (
    AttemptEnded,
    Claimed,
    EntryForgotten,
    Held,
    Hit,
    KeyReleased,
    LookUp,
    Miss,
    Record,
    RunEnded,
    Status,
    StepTracked,
)
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.ports import Ledger
from mlflow_pipes.testing.ledger_records import (
    LONG_AFTER_S,
    T0,
    LedgerAndOutbox,
    cached,
    changed,
    declared,
    ended_attempt,
    hex_id,
    key_of,
    started,
    value,
)


class LedgerContract:
    """The promises of :class:`mlflow_pipes.ports.Ledger`, as tests."""

    @pytest.fixture
    def ledger(self) -> LedgerAndOutbox:
        """Return an empty ledger; adapters override this."""
        raise NotImplementedError

    def ask(self, ledger: Ledger, run: str, name: str, at: float = T0, **changes: Any) -> Any:
        (answer,) = ledger.exchange([], [LookUp(key_of(name), hex_id(run), **changes)], at)
        return answer

    @pytest.fixture
    def two_runs(self, ledger: LedgerAndOutbox) -> LedgerAndOutbox:
        ledger.exchange([started("one"), started("two", process="2:2")], [], T0)
        return ledger

    def test_a_key_without_entry_is_claimed_by_who_asks_first(self, two_runs: Ledger) -> None:
        assert isinstance(self.ask(two_runs, "one", "load"), Claimed)
        assert self.ask(two_runs, "two", "load") == Held(key_of("load"), hex_id("one"), "elsewhere", "1:1")

    def test_a_question_that_does_not_claim_leaves_the_key_free(self, two_runs: Ledger) -> None:
        assert self.ask(two_runs, "one", "load", claim=False) == Miss(key_of("load"))
        assert isinstance(self.ask(two_runs, "two", "load"), Claimed)

    def test_a_run_that_asks_again_is_given_the_same_token(self, two_runs: Ledger) -> None:
        assert self.ask(two_runs, "one", "load") == self.ask(two_runs, "one", "load")

    def test_a_cached_output_is_a_hit_for_everybody_from_then_on(self, two_runs: Ledger) -> None:
        token = self.ask(two_runs, "one", "load").token
        two_runs.exchange([cached("load", "42", token)], [], T0)
        hit = Hit(key_of("load"), value("42"), hex_id("step load"), T0, 2.0)
        assert self.ask(two_runs, "one", "load") == hit
        assert self.ask(two_runs, "two", "load") == hit
        assert self.ask(two_runs, "two", "load").output.inline == b'"42"'

    def test_records_are_written_before_look_ups_are_answered(self, two_runs: Ledger) -> None:
        token = self.ask(two_runs, "one", "load").token
        (answer,) = two_runs.exchange([cached("load", "42", token)], [LookUp(key_of("load"), hex_id("two"))], T0)
        assert isinstance(answer, Hit)

    def test_answers_come_in_the_order_of_the_questions(self, two_runs: Ledger) -> None:
        names = [str(number) for number in range(700)]
        two_runs.exchange([cached(name, name) for name in names[::2]], [], T0)
        answers: list[Any] = two_runs.exchange([], [LookUp(key_of(name), hex_id("one")) for name in names], T0)
        assert [answer.key for answer in answers] == [key_of(name) for name in names]
        assert all(isinstance(answer, Hit) for answer in answers[::2])
        assert all(isinstance(answer, Claimed) for answer in answers[1::2])

    def test_the_same_key_asked_twice_in_one_exchange_gets_one_token(self, two_runs: Ledger) -> None:
        question = LookUp(key_of("load"), hex_id("one"))
        first, second = two_runs.exchange([], [question, question], T0)
        assert isinstance(first, Claimed)
        assert first == second

    def test_a_released_key_may_be_claimed_by_another_with_a_higher_token(self, two_runs: Ledger) -> None:
        token = self.ask(two_runs, "one", "load").token
        two_runs.exchange([KeyReleased(key_of("load"), token)], [], T0)
        assert self.ask(two_runs, "two", "load").token > token

    def test_only_the_owner_can_release_a_key(self, two_runs: Ledger) -> None:
        token = self.ask(two_runs, "one", "load").token
        two_runs.exchange([KeyReleased(key_of("load"), token + 1)], [], T0)
        assert isinstance(self.ask(two_runs, "two", "load"), Held)

    def test_a_claim_without_heartbeats_dies(self, two_runs: Ledger) -> None:
        token = self.ask(two_runs, "one", "load").token
        assert self.ask(two_runs, "two", "load", T0 + LONG_AFTER_S).token > token

    def test_heartbeats_keep_claims_alive(self, two_runs: Ledger) -> None:
        self.ask(two_runs, "one", "load")
        for seconds in range(0, int(LONG_AFTER_S), 10):
            two_runs.heartbeat(hex_id("one"), T0 + seconds)
        assert isinstance(self.ask(two_runs, "two", "load", T0 + LONG_AFTER_S), Held)

    def test_a_new_claim_of_a_run_that_was_silent_for_long_counts(self, two_runs: Ledger) -> None:
        two_runs.heartbeat(hex_id("one"), T0)
        self.ask(two_runs, "one", "load", T0 + LONG_AFTER_S)
        assert isinstance(self.ask(two_runs, "two", "load", T0 + LONG_AFTER_S + 1), Held)

    def test_a_heartbeat_tells_once_of_claims_that_others_took_over(self, two_runs: Ledger) -> None:
        token = self.ask(two_runs, "one", "load").token
        self.ask(two_runs, "two", "load", T0 + LONG_AFTER_S)
        assert list(two_runs.heartbeat(hex_id("one"), T0 + LONG_AFTER_S).lost_tokens) == [token]
        assert not two_runs.heartbeat(hex_id("one"), T0 + LONG_AFTER_S).lost_tokens

    def test_a_late_result_does_not_replace_the_new_owners(self, two_runs: Ledger) -> None:
        old = self.ask(two_runs, "one", "load").token
        new = self.ask(two_runs, "two", "load", T0 + LONG_AFTER_S).token
        two_runs.exchange([cached("load", "new", new)], [], T0 + LONG_AFTER_S)
        two_runs.exchange([cached("load", "late", old)], [], T0 + LONG_AFTER_S)
        assert self.ask(two_runs, "one", "load").output == value("new")

    def test_a_late_result_is_used_while_nobody_has_one_and_the_new_owner_keeps_its_claim(
        self, two_runs: Ledger
    ) -> None:
        old = self.ask(two_runs, "one", "load").token
        new = self.ask(two_runs, "two", "load", T0 + LONG_AFTER_S).token
        two_runs.exchange([cached("load", "late", old)], [], T0 + LONG_AFTER_S)
        assert self.ask(two_runs, "one", "load").output == value("late")
        two_runs.exchange([cached("load", "new", new)], [], T0 + LONG_AFTER_S)
        assert self.ask(two_runs, "one", "load").output == value("new")

    def test_an_entry_that_is_not_for_reuse_is_never_a_hit(self, two_runs: Ledger) -> None:
        two_runs.exchange([cached("deploy", "done", reuse=False)], [], T0)
        assert isinstance(self.ask(two_runs, "one", "deploy", claim=False), Miss)

    def test_an_entry_older_than_asked_for_does_not_count(self, two_runs: Ledger) -> None:
        two_runs.exchange([cached("read", "old")], [], T0)
        assert isinstance(self.ask(two_runs, "one", "read", T0 + 60, max_age_s=60.0), Hit)
        assert isinstance(self.ask(two_runs, "one", "read", T0 + 61, max_age_s=60.0), Claimed)

    def test_what_replaces_an_entry_that_is_too_old_is_a_hit_again(self, two_runs: Ledger) -> None:
        two_runs.exchange([cached("read", "old")], [], T0)
        token = self.ask(two_runs, "one", "read", T0 + 61, max_age_s=60.0).token
        two_runs.exchange([cached("read", "new", token, made_at=T0 + 62)], [], T0 + 62)
        assert self.ask(two_runs, "one", "read", T0 + 63, max_age_s=60.0).output == value("new")

    def test_a_forgotten_entry_is_gone(self, two_runs: Ledger) -> None:
        two_runs.exchange([cached("load", "42")], [], T0)
        two_runs.exchange([EntryForgotten(key_of("load"))], [], T0)
        assert isinstance(self.ask(two_runs, "one", "load"), Claimed)

    def test_forgetting_and_caching_in_one_exchange_count_in_their_order(self, two_runs: Ledger) -> None:
        two_runs.exchange([cached("load", "1")], [], T0)
        two_runs.exchange([EntryForgotten(key_of("load")), cached("load", "2")], [], T0)
        assert self.ask(two_runs, "one", "load").output == value("2")
        two_runs.exchange([cached("other", "3"), EntryForgotten(key_of("other"))], [], T0)
        assert isinstance(self.ask(two_runs, "one", "other"), Claimed)

    def test_the_answers_of_a_large_exchange_are_its_own(self, two_runs: Ledger) -> None:
        names = [str(number) for number in range(1500)]
        two_runs.exchange([declared("one", name) for name in names], [], T0)
        for _ in range(3):
            records: list[Record] = [changed("one", name, Status.RUNNING, inputs={"x": name * 50}) for name in names]
            records += [cached(name, name) for name in names[::2]]
            answers: list[Any] = two_runs.exchange(records, [LookUp(key_of(name), hex_id("one")) for name in names], T0)
            assert [answer.key for answer in answers] == [key_of(name) for name in names]
            assert [answer.output for answer in answers[::2] if isinstance(answer, Hit)] == list(map(value, names[::2]))
            assert all(isinstance(answer, Claimed) for answer in answers[1::2])

    def test_an_exchange_that_is_written_twice_counts_once(self, two_runs: Ledger) -> None:
        """When the connection is lost in a commit nobody knows whether it counts: it is written again."""
        token = self.ask(two_runs, "one", "load").token
        records: list[Record] = [
            started("three"),
            declared("three", "load"),
            changed("three", "load", Status.SUCCEEDED, output=value("42")),
            AttemptEnded(*ended_attempt("three", "load")),
            StepTracked(hex_id("three"), hex_id("three/load"), Tracked(metrics=(Metric("loss", number=1.0),))),
            cached("load", "42", token),
        ]
        questions = [LookUp(key_of(name), hex_id("three")) for name in ("load", "train")]
        hit, claimed = two_runs.exchange(records, questions, T0)
        assert two_runs.exchange(records, questions, T0) == [hit, claimed]
        assert isinstance(hit, Hit)
        assert isinstance(claimed, Claimed)
        assert isinstance(self.ask(two_runs, "two", "train"), Held)
        ended: list[Record] = [
            KeyReleased(key_of("train"), claimed.token),
            RunEnded(hex_id("three"), Status.SUCCEEDED, T0),
        ]
        for _ in range(2):
            two_runs.exchange(ended, [], T0)
        assert isinstance(self.ask(two_runs, "two", "train"), Claimed)

    def test_the_end_of_a_run_frees_what_it_still_claimed(self, two_runs: Ledger) -> None:
        self.ask(two_runs, "one", "load")
        two_runs.exchange([RunEnded(hex_id("one"), Status.FAILED, T0 + 1)], [], T0 + 1)
        assert isinstance(self.ask(two_runs, "two", "load"), Claimed)

    def test_estimates_are_the_last_durations_of_the_pipelines_slow_nodes(self, two_runs: Ledger) -> None:
        two_runs.exchange([cached("train", "1", duration_s=9.0)], [], T0)
        again = cached("train", "2", duration_s=7.0, reuse=False)
        two_runs.exchange([EntryForgotten(key_of("train")), again, cached("other", "3", pipeline="weather")], [], T0)
        assert two_runs.estimates("flights") == {"train": 7.0}
        assert two_runs.estimates("unknown") == {}

    def test_a_heartbeat_of_a_run_that_others_declared_dead_asks_it_to_stop(self, two_runs: Ledger) -> None:
        assert not two_runs.heartbeat(hex_id("one"), T0).cancel_requested
        two_runs.exchange([RunEnded(hex_id("one"), Status.INTERRUPTED, T0)], [], T0)
        assert two_runs.heartbeat(hex_id("one"), T0).cancel_requested
