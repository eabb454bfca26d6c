"""What every ledger must do with tokens: inherit the contract in a test module and give it a ledger.

::

    class TestMyLedger(LedgerContract, TokenContract):
        @pytest.fixture
        def ledger(self, tmp_path):
            return MyLedger(tmp_path / "ledger.db")
"""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_pipes.model.run import LookUp, Question, RunEnded, Status
from mlflow_pipes.model.tokens import TokenRequest, TokensGranted, TokensReturned, TokensShort
from mlflow_pipes.ports import Ledger
from mlflow_pipes.testing.ledger_records import LONG_AFTER_S, T0, cached, hex_id, key_of, started


def request(run: str, node: str = "load", amount: float = 1, **changes: Any) -> TokenRequest:
    """Return a request for some of the two tokens ``database`` that there are."""
    fields: dict[str, Any] = {"amounts": {"database": amount}, "limits": {"database": 2}}
    return TokenRequest(hex_id(run), node, **{**fields, **changes})


def returned(run: str, node: str = "load") -> TokensReturned:
    """Return that a step holds nothing any more."""
    return TokensReturned(hex_id(run), node)


class TokenContract:
    """What :class:`mlflow_pipes.ports.Ledger` promises of tokens, as tests."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        """Return an empty ledger; adapters override this."""
        raise NotImplementedError

    @pytest.fixture
    def three_runs(self, ledger: Ledger) -> Ledger:
        ledger.exchange([started(name) for name in ("one", "two", "three")], [], T0)
        return ledger

    def want(self, ledger: Ledger, run: str, at: float = T0, **changes: Any) -> Any:
        (answer,) = ledger.exchange([], [request(run, **changes)], at)
        return answer

    def test_what_is_free_is_given_and_no_more(self, three_runs: Ledger) -> None:
        assert self.want(three_runs, "one") == TokensGranted("load")
        assert self.want(three_runs, "two") == TokensGranted("load")
        held = tuple(sorted([(hex_id("one"), 1.0), (hex_id("two"), 1.0)]))
        assert self.want(three_runs, "three") == TokensShort("load", "database", 1, 2, held_by=held)

    def test_a_step_that_asks_again_is_given_the_same(self, three_runs: Ledger) -> None:
        assert self.want(three_runs, "one", amount=2) == self.want(three_runs, "one", amount=2) == TokensGranted("load")
        assert isinstance(self.want(three_runs, "two"), TokensShort)

    def test_what_is_returned_is_free(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        (answer,) = three_runs.exchange([returned("one")], [request("two", amount=2)], T0)
        assert answer == TokensGranted("load")

    def test_returning_twice_or_what_one_does_not_hold_frees_nothing_of_others(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        three_runs.exchange([returned("two"), returned("one", "other"), returned("two")], [], T0)
        assert isinstance(self.want(three_runs, "two"), TokensShort)

    def test_answers_stand_at_the_places_of_their_questions(self, three_runs: Ledger) -> None:
        three_runs.exchange([cached("known", "42")], [], T0)
        questions: list[Question] = [
            request("one", "a"), LookUp(key_of("known"), hex_id("one")), request("one", "b"),
            LookUp(key_of("new"), hex_id("one")), request("one", "c"),
        ]  # fmt: skip
        answers: list[Any] = three_runs.exchange([], questions, T0)
        assert [getattr(answer, "key", "") for answer in answers] == ["", key_of("known"), "", key_of("new"), ""]
        assert answers[0] == TokensGranted("a")
        assert answers[2] == TokensGranted("b")
        assert answers[4] == TokensShort("c", "database", 1, 2, held_by=((hex_id("one"), 2.0),))

    def test_several_tokens_are_given_together_or_none(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one")
        both: dict[str, Any] = {"amounts": {"database": 2, "licence": 1}, "limits": {"database": 2, "licence": 1}}
        assert isinstance(self.want(three_runs, "two", **both), TokensShort)
        three_runs.exchange([returned("two")], [], T0)
        licence: dict[str, Any] = {"amounts": {"licence": 1}, "limits": {"licence": 1}}
        assert self.want(three_runs, "three", **licence) == TokensGranted("load")

    def test_parts_of_a_token_add_up(self, three_runs: Ledger) -> None:
        parts = [request("one", str(number), 0.1) for number in range(20)]
        assert all(isinstance(answer, TokensGranted) for answer in three_runs.exchange([], parts, T0))
        assert isinstance(self.want(three_runs, "two", amount=0.1), TokensShort)

    def test_numbered_tokens_are_told_apart_also_between_runs(self, three_runs: Ledger) -> None:
        gpus: dict[str, Any] = {"amounts": {"gpus": 2}, "limits": {"gpus": 4}, "numbered": ("gpus",)}
        assert self.want(three_runs, "one", **gpus) == TokensGranted("load", {"gpus": (0, 1)})
        assert self.want(three_runs, "two", **gpus) == TokensGranted("load", {"gpus": (2, 3)})
        three_runs.exchange([returned("one")], [], T0)
        assert self.want(three_runs, "three", **gpus) == TokensGranted("load", {"gpus": (0, 1)})

    def test_who_waits_and_goes_first_is_not_overtaken(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        assert isinstance(self.want(three_runs, "two", amount=2, priority=1), TokensShort)
        three_runs.exchange([returned("one")], [], T0)
        answer = self.want(three_runs, "three")
        assert answer == TokensShort("load", "database", 1, 2, before=((hex_id("two"), 2.0),))
        assert self.want(three_runs, "two", amount=2, priority=1) == TokensGranted("load")

    def test_who_has_waited_longer_goes_first(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        self.want(three_runs, "two", amount=2, waited_s=1.0)
        self.want(three_runs, "three", amount=2, waited_s=5.0)
        three_runs.exchange([returned("one")], [], T0)
        assert isinstance(self.want(three_runs, "two", amount=2, waited_s=1.0), TokensShort)
        assert isinstance(self.want(three_runs, "three", amount=2, waited_s=5.0), TokensGranted)

    def test_who_does_not_ask_any_more_holds_nobody_up(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        self.want(three_runs, "two", amount=2, priority=1)
        three_runs.exchange([returned("one")], [], T0)
        assert isinstance(self.want(three_runs, "three"), TokensShort)
        assert isinstance(self.want(three_runs, "three", T0 + 60), TokensGranted)

    def test_who_withdraws_its_request_holds_nobody_up(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        self.want(three_runs, "two", amount=2, priority=1)
        three_runs.exchange([returned("one"), returned("two")], [], T0)
        assert isinstance(self.want(three_runs, "three"), TokensGranted)

    def test_the_end_of_a_run_frees_what_it_held(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        (answer,) = three_runs.exchange([RunEnded(hex_id("one"), Status.FAILED, T0)], [request("two", amount=2)], T0)
        assert answer == TokensGranted("load")

    def test_what_a_run_without_heartbeats_held_is_free_after_a_while(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        assert isinstance(self.want(three_runs, "two", T0 + 1), TokensShort)
        assert isinstance(self.want(three_runs, "two", T0 + LONG_AFTER_S), TokensGranted)

    def test_heartbeats_keep_what_a_run_holds(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        for seconds in range(0, int(LONG_AFTER_S), 10):
            three_runs.heartbeat(hex_id("one"), T0 + seconds)
        assert isinstance(self.want(three_runs, "two", T0 + LONG_AFTER_S), TokensShort)

    def test_priorities_may_be_any_whole_numbers(self, three_runs: Ledger) -> None:
        self.want(three_runs, "one", amount=2)
        self.want(three_runs, "two", amount=2, priority=-(10**30))
        self.want(three_runs, "three", amount=2, priority=10**30, step_priority=10**30)
        three_runs.exchange([returned("one")], [], T0)
        assert isinstance(self.want(three_runs, "two", amount=2, priority=-(10**30)), TokensShort)
        assert isinstance(self.want(three_runs, "three", amount=2, priority=10**30), TokensGranted)
