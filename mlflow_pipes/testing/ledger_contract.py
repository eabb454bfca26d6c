"""What every ledger and outbox must do: inherit the contracts in a test module and give them a ledger.

::

    class TestMyLedger(LedgerContract, OutboxContract):
        @pytest.fixture
        def ledger(self, tmp_path):
            return MyLedger(tmp_path / "ledger.db")
"""

from __future__ import annotations

import json
import math
from typing import Any, Protocol

import pytest

from mlflow_pipes.digests import digest_bytes, digest_record
from mlflow_pipes.model.artifact import Artifact, Leaf
from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.model.run import (
    AttemptEnded,
    Claimed,
    EntryForgotten,
    Held,
    Hit,
    KeyReleased,
    LookUp,
    Miss,
    OutputCached,
    Record,
    RunEnded,
    RunStarted,
    SourceState,
    Status,
    StepChanged,
    StepDeclared,
    StepTracked,
)
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.ports import Ledger, Outbox

T0 = 1_700_000_000.0
# No claim lives longer than this without a heartbeat.
LONG_AFTER_S = 3600.0


class LedgerAndOutbox(Ledger, Outbox, Protocol):
    """A ledger that is its own outbox."""


def hex_id(name: str) -> str:
    """Return 32 hexadecimal digits that stand for *name*."""
    return digest_record("pipes.test-id/1", (name,))[:32]


def key_of(name: str) -> str:
    """Return an action key that stands for *name*."""
    return digest_record("pipes.test-key/1", (name,))


def value(text: str) -> Artifact:
    """Return an artifact that carries *text* inline, as JSON."""
    content = json.dumps(text).encode()
    return Leaf("json", digest_bytes(content), inline=content)


def started(run: str, **changes: Any) -> RunStarted:
    """Return the start of a run, on a host that is not this one."""
    fields = {"pipeline": "flights", "experiment": "flights", "started_at": T0, "host": "elsewhere", "process": "1:1"}
    return RunStarted(run_id=hex_id(run), **{**fields, **changes})


def declared(run: str, node: str, **changes: Any) -> StepDeclared:
    """Return the declaration of a step."""
    fields = {"name": node.partition("[")[0], "kind": "step", "parent_id": hex_id(run)}
    return StepDeclared(hex_id(run), hex_id(f"{run}/{node}"), node, **{**fields, **changes})


def changed(run: str, node: str, status: Status, at: float = T0, **changes: Any) -> StepChanged:
    """Return a step's new status."""
    return StepChanged(hex_id(run), hex_id(f"{run}/{node}"), status, at, **changes)


def cached(name: str, text: str, token: int = 0, **changes: Any) -> OutputCached:
    """Return a new cache entry."""
    fields = {"pipeline": "flights", "node": name, "made_at": T0, "duration_s": 2.0}
    return OutputCached(key_of(name), value(text), hex_id(f"step {name}"), token=token, **{**fields, **changes})


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


class OutboxContract:
    """The promises of :class:`mlflow_pipes.ports.Outbox`, as tests."""

    @pytest.fixture
    def ledger(self) -> LedgerAndOutbox:
        """Return an empty ledger; adapters override this."""
        raise NotImplementedError

    def pending(self, ledger: Outbox, destination: str = "here", limit: int = 100) -> dict[str, Publication]:
        return {item.run_id: item for item in ledger.pending(destination, limit)}

    def deliver(self, ledger: Outbox, destination: str = "here", limit: int = 100) -> list[str]:
        items = ledger.pending(destination, limit)
        ledger.delivered(destination, [Receipt(item.run_id, item.revision, f"m{item.run_id}") for item in items])
        return [item.run_id for item in items]

    def test_a_run_is_pending_from_its_start_until_it_was_delivered(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one", parameters={"folder": "data"}, user="ada", tags={"team": "x"})], [], T0)
        (run,) = ledger.pending("here", 10)
        assert (run.run_id, run.root_id, run.parent_id) == (hex_id("one"), hex_id("one"), None)
        assert (run.kind, run.name, run.experiment, run.status) == ("run", "flights", "flights", Status.RUNNING)
        assert (run.params, run.user, run.tags["team"]) == ({"folder": "data"}, "ada", "x")
        assert run.mlflow_run_id is None
        self.deliver(ledger)
        assert not ledger.pending("here", 10)

    def test_waiting_steps_are_not_shown(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one"), declared("one", "load"), changed("one", "load", Status.QUEUED)], [], T0)
        assert set(self.pending(ledger)) == {hex_id("one")}

    def test_a_step_is_shown_when_it_runs_and_again_when_it_has_ended(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one"), declared("one", "load"), changed("one", "load", Status.RUNNING)], [], T0)
        step = self.pending(ledger)[hex_id("one/load")]
        assert (step.status, step.kind, step.name, step.parent_id) == (Status.RUNNING, "step", "load", hex_id("one"))
        self.deliver(ledger)
        ended = changed("one", "load", Status.SUCCEEDED, T0 + 2, output=value("1"), key="k" * 64, worker="w1")
        ledger.exchange([ended, AttemptEnded(*ended_attempt("one", "load"))], [], T0 + 2)
        (again,) = ledger.pending("here", 10)
        assert again.revision > step.revision
        assert (again.status, again.started_at, again.ended_at) == (Status.SUCCEEDED, T0, T0 + 2)
        assert again.mlflow_run_id == f"m{hex_id('one/load')}"
        assert (again.tags["pipes.worker"], again.tags["pipes.host"]) == ("w1", "h1")
        assert again.outputs

    def test_parents_come_before_their_children_whatever_changed_last(self, ledger: LedgerAndOutbox) -> None:
        outer, inner = hex_id("one/outer"), hex_id("one/outer/inner")
        ledger.exchange(
            [
                started("one"),
                declared("one", "outer", kind="pipeline"),
                declared("one", "outer/inner", kind="pipeline", parent_id=outer),
                declared("one", "outer/inner/load", parent_id=inner, position=2),
                changed("one", "outer/inner/load", Status.RUNNING),
            ],
            [],
            T0,
        )
        ledger.exchange(
            [changed("one", "outer/inner", Status.RUNNING), changed("one", "outer", Status.RUNNING)], [], T0
        )
        ledger.exchange([RunEnded(hex_id("one"), Status.SUCCEEDED, T0 + 1)], [], T0 + 1)
        assert [item.name for item in ledger.pending("here", 10)] == [
            "flights",
            "outer",
            "outer/inner",
            "outer/inner/load",
        ]

    def test_parents_come_first_also_when_only_a_few_are_taken_at_a_time(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one"), declared("one", "a"), declared("one", "b", position=1)], [], T0)
        ledger.exchange([changed("one", "a", Status.SUCCEEDED), changed("one", "b", Status.SUCCEEDED)], [], T0)
        ledger.exchange([RunEnded(hex_id("one"), Status.SUCCEEDED, T0 + 1)], [], T0 + 1)
        taken: list[str] = []
        while batch := self.deliver(ledger, limit=1):
            taken += batch
        assert taken[0] == hex_id("one")
        assert sorted(taken[1:]) == sorted([hex_id("one/a"), hex_id("one/b")])

    def test_destinations_do_not_know_of_each_other(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one")], [], T0)
        self.deliver(ledger, "here")
        assert set(self.pending(ledger, "there")) == {hex_id("one")}

    def test_a_change_after_it_was_read_is_still_pending_after_its_receipt(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one")], [], T0)
        (read,) = ledger.pending("here", 10)
        ledger.exchange([RunEnded(hex_id("one"), Status.SUCCEEDED, T0 + 1)], [], T0 + 1)
        ledger.delivered("here", [Receipt(read.run_id, read.revision, "m1")])
        (again,) = ledger.pending("here", 10)
        assert (again.status, again.mlflow_run_id) == (Status.SUCCEEDED, "m1")
        ledger.delivered("here", [Receipt(again.run_id, again.revision, "m1")])
        ledger.delivered("here", [Receipt(read.run_id, read.revision, "m1")])  # late, and twice
        assert not ledger.pending("here", 10)

    def test_what_failed_to_be_delivered_stays_pending_when_later_ones_were(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one")], [], T0)
        ledger.exchange([started("two")], [], T0)
        second = self.pending(ledger)[hex_id("two")]
        ledger.delivered("here", [Receipt(second.run_id, second.revision, "m2")])
        assert set(self.pending(ledger)) == {hex_id("one")}
        self.deliver(ledger)
        assert not ledger.pending("here", 10)

    def test_what_a_step_logged_is_shown_on_it_and_rolled_up_on_the_run(self, ledger: LedgerAndOutbox) -> None:
        logged = Tracked(
            metrics=(
                Metric("loss", number=2.0, step=0, timestamp_ms=5),
                Metric("loss", number=1.0, step=1, timestamp_ms=6),
                Metric("bad", number=math.nan),
                Metric("note", "text", plain="fine"),
                Metric("table", "table", plain={"a": [1, 2]}),
            ),
            params={"depth": "4"},
            tags={"mine": "yes"},
        )
        ledger.exchange(
            [
                started("one"),
                declared("one", "train", parameters={"seed": "0"}),
                changed("one", "train", Status.SUCCEEDED),
                StepTracked(hex_id("one"), hex_id("one/train"), logged),
                RunEnded(hex_id("one"), Status.SUCCEEDED, T0 + 1),
            ],
            [],
            T0,
        )
        found = self.pending(ledger)
        step, run = found[hex_id("one/train")], found[hex_id("one")]
        assert [metric.key for metric in step.metrics] == ["loss", "loss", "bad", "note", "table"]
        assert step.metrics[:2] == logged.metrics[:2]
        assert math.isnan(step.metrics[2].number or 0.0)
        assert step.metrics[3:] == logged.metrics[3:]
        assert step.params == {"seed": "0", "depth": "4"}
        assert step.tags["mine"] == "yes"
        rolled = {metric.key: metric.number for metric in run.metrics}
        assert rolled["train/loss"] == 1.0
        assert "train/note" not in rolled

    def test_a_reused_step_shows_what_its_origin_logged(self, ledger: LedgerAndOutbox) -> None:
        logged = Tracked(metrics=(Metric("auc", number=0.9),), params={"depth": "4"})
        ledger.exchange(
            [
                started("one"),
                declared("one", "train"),
                changed("one", "train", Status.SUCCEEDED),
                StepTracked(hex_id("one"), hex_id("one/train"), logged),
                started("two"),
                declared("two", "train"),
                changed("two", "train", Status.REUSED, reused_from=hex_id("one/train")),
                RunEnded(hex_id("two"), Status.SUCCEEDED, T0 + 1),
            ],
            [],
            T0,
        )
        found = self.pending(ledger)
        step = found[hex_id("two/train")]
        assert (step.metrics, step.params) == (logged.metrics, {"depth": "4"})
        assert step.reused_from == step.tags["pipes.reused_from"] == hex_id("one/train")
        assert [metric.key for metric in found[hex_id("two")].metrics] == ["train/auc"]

    def test_a_sub_pipeline_rolls_up_the_metrics_of_its_own_steps(self, ledger: LedgerAndOutbox) -> None:
        logged = Tracked(metrics=(Metric("auc", number=0.9),))
        ledger.exchange(
            [
                started("one"),
                declared("one", "outer", kind="pipeline"),
                declared("one", "outer/train", parent_id=hex_id("one/outer"), position=1),
                declared("one", "train", position=2),
                changed("one", "outer/train", Status.SUCCEEDED),
                changed("one", "train", Status.SUCCEEDED),
                changed("one", "outer", Status.SUCCEEDED),
                StepTracked(hex_id("one"), hex_id("one/outer/train"), logged),
                StepTracked(hex_id("one"), hex_id("one/train"), logged),
            ],
            [],
            T0,
        )
        assert [metric.key for metric in self.pending(ledger)[hex_id("one/outer")].metrics] == ["outer/train/auc"]

    def test_the_git_state_of_a_run_stands_in_its_tags(self, ledger: LedgerAndOutbox) -> None:
        ledger.exchange([started("one", source=SourceState("abc", "main", "https://x/y.git", dirty=True))], [], T0)
        tags = self.pending(ledger)[hex_id("one")].tags
        assert tags["mlflow.source.git.commit"] == tags["pipes.git_commit"] == "abc"
        assert (tags["pipes.git_branch"], tags["pipes.git_dirty"]) == ("main", "true")


def ended_attempt(run: str, node: str) -> tuple[Any, ...]:
    """Return the fields of a first attempt that took two seconds."""
    return (hex_id(run), hex_id(f"{run}/{node}"), 1, T0, T0 + 2, "local", "w1", "h1")
