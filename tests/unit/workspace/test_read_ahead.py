"""Steps reused one after the other are read together; what changed meanwhile is noticed."""

from dataclasses import replace

import pytest

from mlflow_pipes.model.run import EntryForgotten, Hit, LookUp, Miss, Status
from mlflow_pipes.testing.ledger_records import T0, cached, changed, declared, hex_id, key_of, started, value
from mlflow_pipes.workspace.ledger.flights import Entry
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.read_ahead import FEWEST_HITS, VALID_S, ReadAhead

STEPS = 20


def hit(number):
    return Hit(f"key{number}", value("x"), f"step{number}", T0, 0.0)


class Reader:
    """What would be read, and the clock."""

    def __init__(self):
        self.now = 100.0
        self.asked = []
        self.ahead = ReadAhead(self.load, lambda: self.now)

    def load(self, step_run_id):
        self.asked.append(step_run_id)
        return {"next": Entry("next", "", "s", T0, 0.0, reuse=True)}

    def hits(self, count):
        for number in range(count):
            self.ahead.answered([hit(number)])


@pytest.fixture
def reader():
    return Reader()


def test_some_hits_one_by_one_have_what_follows_the_last_one_read(reader):
    reader.hits(FEWEST_HITS - 1)
    assert (reader.asked, reader.ahead.entries()) == ([], {})
    reader.hits(1)
    assert reader.asked == ["step0"]
    assert set(reader.ahead.entries()) == {"next"}


def test_a_miss_or_many_at_once_begin_the_count_anew(reader):
    for other in ([Miss("k")], [hit(number) for number in range(5)]):
        reader.hits(FEWEST_HITS - 1)
        reader.ahead.answered(other)
        reader.hits(FEWEST_HITS - 1)
        reader.ahead.answered(other)
    assert reader.asked == []


def test_what_was_read_is_used_for_a_short_time_and_not_after_a_change(reader):
    reader.hits(FEWEST_HITS)
    reader.now += VALID_S
    assert reader.ahead.entries()
    reader.now += 0.1
    assert not reader.ahead.entries()
    reader.ahead.served(100)
    reader.hits(FEWEST_HITS)
    reader.ahead.forget(["other", "next"])
    assert not reader.ahead.entries()


def test_where_it_is_of_no_use_it_is_tried_less_and_less(reader):
    for _ in range(3):
        reader.hits(FEWEST_HITS)
        reader.ahead.served(100)
    assert len(reader.asked) == 3
    reader.hits(1000)
    assert len(reader.asked) < 12


@pytest.fixture
def ledger(either_ledger):
    opened = SqlLedger.open(either_ledger)
    steps = [f"step{number}" for number in range(STEPS)]
    records = [started("first")]
    for number, name in enumerate(steps):
        records += [
            declared("first", name, position=number),
            replace(cached(name, name), step_run_id=hex_id(f"first/{name}")),
            changed("first", name, Status.SUCCEEDED, key=key_of(name)),
        ]
    opened.exchange(records, [], T0)
    yield opened
    opened.close()


def look(ledger, number, at=T0):
    (answer,) = ledger.exchange([], [LookUp(key_of(f"step{number}"), hex_id("second"), claim=False)], at)
    return answer


def test_all_of_a_chain_are_hits_with_their_own_outputs(ledger):
    for number in range(STEPS):
        answer = look(ledger, number)
        assert isinstance(answer, Hit)
        assert answer.output == value(f"step{number}")


def test_an_entry_that_this_process_forgot_is_no_hit_though_it_was_read_ahead(ledger):
    for number in range(FEWEST_HITS):
        look(ledger, number)
    ledger.exchange([EntryForgotten(key_of("step9"))], [], T0)
    assert isinstance(look(ledger, 8), Hit)
    assert look(ledger, 9) == Miss(key_of("step9"))


def test_an_entry_that_was_read_ahead_can_be_too_old(ledger):
    for number in range(FEWEST_HITS):
        look(ledger, number)
    question = LookUp(key_of("step9"), hex_id("second"), max_age_s=5.0, claim=False)
    assert isinstance(ledger.exchange([], [question], T0 + 4)[0], Hit)
    assert ledger.exchange([], [question], T0 + 6) == [Miss(key_of("step9"))]
