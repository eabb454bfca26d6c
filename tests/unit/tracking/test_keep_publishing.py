from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from mlflow_pipes.errors import TrackingError
from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.model.run import Status
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.tracking.publisher import Pace, Publisher, keep_publishing


class MemoryOutbox:
    def __init__(self, count: int) -> None:
        self.publications = {
            f"{n:032x}": Publication(f"{n:032x}", 1, "r", "e", "n", "step", Status.SUCCEEDED) for n in range(count)
        }
        self.receipts: dict[str, Receipt] = {}

    def pending(self, destination: str, limit: int) -> list[Publication]:
        return [item for id_, item in self.publications.items() if id_ not in self.receipts][:limit]

    def delivered(self, destination: str, receipts: Sequence[Receipt]) -> None:
        self.receipts.update((receipt.run_id, receipt) for receipt in receipts)


class Server:
    """A destination that is away for its first *away* deliveries, and takes *at_once* runs of each other one."""

    name = "server"
    batch = 10

    def __init__(self, away: int = 0, at_once: int = 10) -> None:
        self.away = away
        self.at_once = at_once
        self.took: list[str] = []

    def deliver(self, publications: Sequence[Publication], datastore: object) -> list[Receipt]:
        if self.away:
            self.away -= 1
            raise TrackingError("away")
        some = publications[: self.at_once]
        self.took += [item.run_id for item in some]
        return [Receipt(item.run_id, item.revision, item.run_id) for item in some]

    def close(self) -> None: ...


class Time:
    def __init__(self) -> None:
        self.now = self.worked = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def worked_s(self) -> float:
        self.worked += 0.1
        return self.worked

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def _publish(outbox: MemoryOutbox, server: Server, time: Time, pace: Pace = Pace(), live: int = 0) -> bool:  # noqa: B008
    looks = iter([True] * live)
    publisher = Publisher(outbox, server, MemoryDatastore())
    return keep_publishing(
        publisher,
        has_live_run=lambda: next(looks, False),
        pace=pace,
        monotonic=time.monotonic,
        worked_s=time.worked_s,
        wait=time.wait,
    )


def test_drain_delivers_everything_in_batches_and_counts() -> None:
    outbox, server = MemoryOutbox(25), Server()
    assert Publisher(outbox, server, MemoryDatastore()).drain() == 25
    assert len(server.took) == len(set(server.took)) == 25
    assert Publisher(outbox, server, MemoryDatastore()).drain() == 0


def test_what_was_taken_before_a_failure_is_not_sent_again() -> None:
    outbox, server = MemoryOutbox(5), Server(at_once=2)
    assert Publisher(outbox, server, MemoryDatastore()).drain() == 5
    assert len(server.took) == 5


def test_a_destination_that_takes_nothing_is_an_error_not_a_loop() -> None:
    with pytest.raises(TrackingError, match="took none of 5 runs"):
        Publisher(MemoryOutbox(5), Server(at_once=0), MemoryDatastore()).drain()


def test_a_server_that_is_away_is_asked_with_growing_pauses_until_it_is_back() -> None:
    outbox, time = MemoryOutbox(3), Time()
    assert _publish(outbox, Server(away=8), time)
    assert time.waits[:8] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert len(outbox.receipts) == 3


def test_it_gives_up_on_a_dead_server_and_keeps_the_rest_for_later() -> None:
    outbox, time = MemoryOutbox(3), Time()
    assert not _publish(outbox, Server(away=10_000), time, Pace(give_up_s=100))
    assert 100 <= time.now <= 140
    assert not outbox.receipts


def test_it_stays_while_a_run_is_live_and_ends_when_idle() -> None:
    time = Time()
    assert _publish(MemoryOutbox(0), Server(), time, Pace(every_s=1, idle_s=10), live=30)
    assert 39 <= time.now <= 41


def test_beside_a_live_run_it_takes_its_share_of_a_processor_and_after_it_all() -> None:
    time = Time()
    assert _publish(MemoryOutbox(50), Server(), time, Pace(share=0.2, every_s=0.5, idle_s=1), live=3)
    assert time.waits == [*[pytest.approx(0.4)] * 3, 0.5, 0.5]


def test_who_is_asked_to_end_begins_no_further_batch_and_leaves_the_rest_to_the_next() -> None:
    outbox, stop = MemoryOutbox(25), threading.Event()

    class Interrupted(Server):
        def deliver(self, publications: Sequence[Publication], datastore: object) -> list[Receipt]:
            stop.set()
            return super().deliver(publications, datastore)

    publisher = Publisher(outbox, Interrupted(), MemoryDatastore())
    keep_publishing(publisher, has_live_run=lambda: True, stop=stop)
    assert len(outbox.receipts) == 10
    assert Publisher(outbox, Server(), MemoryDatastore()).drain() == 15
