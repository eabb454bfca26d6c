"""What every outbox must do: inherit the contract in a test module, beside the ledger's, and give it a ledger.

::

    class TestMyLedger(LedgerContract, OutboxContract):
        @pytest.fixture
        def ledger(self, tmp_path):
            return MyLedger(tmp_path / "ledger.db")
"""

from __future__ import annotations

import math

import pytest

from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.model.run import AttemptEnded, RunEnded, SourceState, Status, StepTracked
from mlflow_pipes.model.tracked import Metric, Tracked
from mlflow_pipes.ports import Outbox
from mlflow_pipes.testing.ledger_records import (
    T0,
    LedgerAndOutbox,
    changed,
    declared,
    ended_attempt,
    hex_id,
    started,
    value,
)


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
