"""Single flight as laws: any order of claims, results, releases, deaths and time keeps them."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlflow_pipes.model.run import Claimed, EntryForgotten, Held, Hit, KeyReleased, LookUp, RunEnded, Status
from mlflow_pipes.testing.ledger_records import T0, cached, hex_id, key_of, started, value
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.tables import claims

KEYS = ("a", "b", "c")
RUNS = ("one", "two", "three")


class SingleFlight(RuleBasedStateMachine):
    """Three runs ask for three keys; *model* is what the rules of the design say, in a few lines."""

    def place(self):
        return ":memory:"

    @initialize()
    def open(self):
        self.ledger = SqlLedger.open(self.place())
        self.now = T0
        self.ledger.exchange([started(run) for run in RUNS], [], T0)
        self.held = {run: {} for run in RUNS}  # what each run believes to hold: key -> token
        self.owner = {}  # key -> (run, token, expires_at)
        self.entries = {}
        self.highest = 0
        self.serial = 0

    @rule(run=st.sampled_from(RUNS), key=st.sampled_from(KEYS))
    def ask(self, run, key):
        (answer,) = self.ledger.exchange([], [LookUp(key_of(key), hex_id(run))], self.now)
        owner = self.owner.get(key)
        if key in self.entries:
            assert isinstance(answer, Hit)
            assert answer.output == value(self.entries[key])
        elif owner is not None and owner[0] != run and owner[2] > self.now:
            assert isinstance(answer, Held)
            assert answer.run_id == hex_id(owner[0])
        elif owner is not None and owner[0] == run:
            assert answer == Claimed(key_of(key), owner[1])
            self.held[run][key] = owner[1]
        else:
            assert isinstance(answer, Claimed)
            assert answer.token > self.highest, "tokens grow"
            self.highest = answer.token
            self.owner[key] = (run, answer.token, self.now + 30.0)
            self.held[run][key] = answer.token

    @rule(run=st.sampled_from(RUNS), key=st.sampled_from(KEYS))
    def finish(self, run, key):
        token = self.held[run].pop(key, None)
        if token is None:
            return
        self.serial += 1
        text = f"{self.serial} by {run}"
        self.ledger.exchange([cached(key, text, token, made_at=self.now)], [], self.now)
        current = key in self.owner and self.owner[key][1] == token
        if current:
            del self.owner[key]
        if current or key not in self.entries:
            self.entries[key] = text

    @rule(run=st.sampled_from(RUNS), key=st.sampled_from(KEYS))
    def release(self, run, key):
        token = self.held[run].pop(key, None)
        if token is not None:
            self.ledger.exchange([KeyReleased(key_of(key), token)], [], self.now)
            if key in self.owner and self.owner[key][1] == token:
                del self.owner[key]

    @rule(key=st.sampled_from(KEYS))
    def forget(self, key):
        self.ledger.exchange([EntryForgotten(key_of(key))], [], self.now)
        self.entries.pop(key, None)

    @rule(run=st.sampled_from(RUNS))
    def beat(self, run):
        told = self.ledger.heartbeat(hex_id(run), self.now)
        mine = {key: owner for key, owner in self.owner.items() if owner[0] == run}
        old = {key: owner for key, owner in mine.items() if owner[2] <= self.now + 20.0}
        self.owner.update((key, (run, owner[1], self.now + 30.0)) for key, owner in old.items())
        assert not set(told.lost_tokens) & {owner[1] for owner in mine.values()}, "what is held is not lost"

    @rule(seconds=st.sampled_from([1.0, 20.0, 31.0]))
    def wait(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.serial > 3)
    @rule(run=st.sampled_from(RUNS))
    def end(self, run):
        self.ledger.exchange([RunEnded(hex_id(run), Status.CANCELLED, self.now)], [], self.now)
        self.owner = {key: owner for key, owner in self.owner.items() if owner[0] != run}

    @invariant()
    def the_ledger_has_exactly_the_claims_of_the_model(self):
        if not hasattr(self, "ledger"):
            return
        found = {(row.key, row.run_id, row.token) for row in self.ledger.database.rows(claims.select())}
        assert found == {(key_of(key), hex_id(run), token) for key, (run, token, _) in self.owner.items()}

    def teardown(self):
        if hasattr(self, "ledger"):
            self.ledger.close()


TestSingleFlight = SingleFlight.TestCase
TestSingleFlight.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
