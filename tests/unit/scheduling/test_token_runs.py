"""Several runs that share tokens: the real state machines and the real policy, by a virtual clock, with seeded faults."""

import heapq
import itertools
import random
from collections import Counter

import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity, Failure, FailureKind
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import RetryPolicy, StepOptions
from mlflow_pipes.model.tokens import TokensGranted
from mlflow_pipes.scheduling.messages import (
    AskTokens,
    CancelAttempt,
    CancelRequested,
    Changed,
    ClaimLost,
    Conclude,
    Concluded,
    Failed,
    Finish,
    Granted,
    Grew,
    LookUpNode,
    Refused,
    ReturnTokens,
    Submit,
    Succeeded,
    TimePassed,
    ToDo,
    TokensCame,
)
from mlflow_pipes.scheduling.sharing import Standing, decide
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.scheduling.timers import TOKENS_POLL_MOST_S
from mlflow_pipes.scheduling.tokens import Supply
from mlflow_pipes.testing.scenarios import trivial_graph

TOKENS = {"database": 2, "licence": 3}
SHARED = "target:local"
WAITING_COUNTS_S = 2.0


class World:
    """A ledger that knows of tokens only, and the runs that use it."""

    def __init__(self, seed=0, *, capacity=None, shared=False, late=0.0):
        self.random = random.Random(seed)
        self.capacity = capacity = capacity or Capacity(4, slots=4)
        self.supply = Supply(TOKENS, {"local": SHARED} if shared else {})
        self.limits = {**TOKENS, **({SHARED: capacity.cpus, f"{SHARED} gpus": capacity.gpus} if shared else {})}
        self.late = late
        self.now = 0.0
        self.runs = {}
        self.rows = {}  # (run, node) -> (Standing, until when it counts)
        self.asked = Counter()
        self.queue = []
        self.sequence = itertools.count()

    def add(self, name, edges, options=None, *, at=0.0, priority=0, takes=1.0, **graph):
        run = Run(self, name, trivial_graph(edges, options=options, **graph), priority, takes)
        self.runs[name] = run
        self.at(at, run, lambda: run.perform(run.state.begin(self.now)))
        return run

    def at(self, time, run, action):
        heapq.heappush(self.queue, (time, next(self.sequence), run, action))

    def go(self, events_at_most=20_000):
        for _ in range(events_at_most):
            wakes = [(wake, run) for run in self.runs.values() if (wake := run.next_wake()) is not None]
            wake, sleeper = min(wakes, key=lambda one: one[0], default=(None, None))
            if self.queue and (wake is None or self.queue[0][0] <= wake):
                self.now, _, run, action = heapq.heappop(self.queue)
                if not run.dead:
                    action()
            elif sleeper is not None:
                self.now = max(self.now, wake)
                sleeper.hear(TimePassed())
            else:
                break
        else:
            raise AssertionError("still busy")
        for run in self.runs.values():
            assert run.dead or run.finished is not None, f"{run.name} hangs: {run.status}"
        assert not [owner for owner in self.rows if not self.runs[owner[0]].dead], "all is given back"
        return self

    # What the ledger does

    def ask(self, run, command):
        self.asked[run.name] += 1
        self.rows = {
            owner: (one, until)
            for owner, (one, until) in self.rows.items()
            if until > self.now and not self.runs[owner[0]].dead
        }
        owner = run.name, command.node
        assert dict(command.limits) == {token: self.limits[token] for token in command.amounts}
        asked = Standing(
            *owner, command.amounts, command.limits, command.numbered, run.priority,
            run.options(command.node).priority, self.now - command.waited_s,
        )  # fmt: skip
        known = self.rows.get(owner)
        if known is None or not known[0].held:
            self.rows[owner] = asked, self.now + WAITING_COUNTS_S
        answers, granted = decide([one for one, _ in self.rows.values()], [owner])
        for one in granted:
            self.rows[owner] = one, float("inf")
        answer = answers[owner]
        if isinstance(answer, TokensGranted):
            return Granted(command.node, answer.units)
        return Refused(command.node, f"short of {answer.token}, held by {answer.held_by}")

    def check(self):
        """No more is used than there is, seen from the attempts that run."""
        used = Counter()
        for run in self.runs.values():
            room = Counter()
            for node in run.running:
                own = run.options(node)
                used.update(own.tokens)
                room.update(cpus=own.cpus, slots=1, gpus=own.gpus)
                if self.supply.shared:
                    used[SHARED] += own.cpus
            assert room["cpus"] <= self.capacity.cpus
            assert room["slots"] <= self.capacity.slots
            gpus = [gpu for _, gpus in run.running.values() for gpu in gpus]
            assert len(gpus) == len(set(gpus)) == room["gpus"]
            assert all(gpu < self.capacity.gpus for gpu in gpus)
            if self.supply.shared:
                used[f"{SHARED} gpus"] += len(gpus)
        if self.supply.shared:
            gpus = [gpu for run in self.runs.values() for _, gpus in run.running.values() for gpu in gpus]
            assert len(gpus) == len(set(gpus)), "runs that share a target have different ones"
        assert all(used[token] <= self.limits[token] for token in self.limits), used


class Run:
    """What the engine does for one run."""

    def __init__(self, world, name, graph, priority, takes):
        self.world, self.name, self.priority, self.takes = world, name, priority, takes
        self.nodes = dict(graph.nodes)
        self.finished = None
        self.dead = False
        self.running = {}
        self.begun = {}
        self.spans = []
        self.status, self.reasons, self.waits = {}, {}, {}
        self.faults = {}
        target_of = dict.fromkeys(graph.nodes, "local")
        self.state = RunState(
            graph, {"local": world.capacity}, target_of, {}, world.random.random, world.supply
        )  # fmt: skip

    def options(self, node):
        return self.nodes[node].options

    def next_wake(self):
        return None if self.dead or self.finished else self.state.next_wake()

    def hear(self, event):
        if isinstance(event, (Succeeded, Failed, Grew)) and event.node in self.running:
            if self.running[event.node][0] != event.number:
                return
            start = self.running.pop(event.node)
            self.spans.append((event.node, start[0], self.world.now))
        self.perform(self.state.handle(event, self.world.now))

    def later(self, event, after=0.0):
        self.world.at(self.world.now + after, self, lambda: self.hear(event))

    def perform(self, commands):  # noqa: C901 - one case a kind of command
        world = self.world
        for command in commands:
            match command:
                case LookUpNode(node):
                    self.later(ToDo(node))
                case AskTokens():
                    late = world.random.random() < world.late
                    self.later(world.ask(self, command), 0.3 * world.random.random() if late else 0.0)
                case ReturnTokens(node):
                    world.rows.pop((self.name, node), None)
                case TokensCame(node, waited_s):
                    self.waits[node] = waited_s
                case Submit(node, number, _, gpus):
                    held = world.rows.get((self.name, node))
                    if self.options(node).tokens or world.supply.shared:
                        assert held is not None, f"{node} holds what it uses"
                        assert held[0].held
                    assert node not in self.running
                    self.running[node] = (number, gpus)
                    self.begun[node] = world.now
                    world.check()
                    self.later(self.answer(node, number), self.takes * (0.5 + world.random.random()))
                case CancelAttempt(node, number):
                    self.later(Failed(node, number, Failure(FailureKind.CANCELLED, "cancelled")), 0.01)
                case Changed(node, status, reason):
                    self.status[node] = status
                    if reason:
                        self.reasons[node] = reason
                case Conclude(node):
                    self.later(Concluded(node))
                case Finish(status):
                    self.finished = status
                    for owner in [owner for owner in world.rows if owner[0] == self.name]:
                        assert not self.running
                        del world.rows[owner]

    def answer(self, node, number):
        chance = self.world.random.random()
        if chance < self.faults.get("fail", 0.0):
            return Failed(node, number, Failure(FailureKind.EXCEPTION, "boom", ("ValueError",)))
        if chance < self.faults.get("grow", 0.0) and node.count("/") < 2:
            names = [f"{node}/{index}" for index in range(self.world.random.randrange(3))]
            options = dict.fromkeys(names, StepOptions(tokens={"licence": 1}))
            graph = trivial_graph(dict.fromkeys(names, ()), options=options, groups=dict.fromkeys(names, node))
            self.nodes.update(graph.nodes)
            return Grew(node, number, graph.nodes, {}, dict.fromkeys(names, "local"), {})
        return Succeeded(node, number)


def many(count, **options):
    names = [f"s{index:02}" for index in range(count)]
    return dict.fromkeys(names, ()), dict.fromkeys(names, StepOptions(**options))


# Laws, whatever goes wrong


@pytest.mark.parametrize("seed", range(120))
def test_runs_end_and_hold_never_more_than_there_is(seed):
    chance = random.Random(seed)
    gpus = chance.randrange(3)
    capacity = Capacity(chance.choice([2, 4]), slots=chance.randrange(1, 5), gpus=gpus)
    world = World(seed, capacity=capacity, shared=chance.random() < 0.4, late=chance.choice([0.0, 0.0, 0.5]))
    for number in range(chance.randrange(1, 4)):
        count = chance.randrange(1, 10)
        edges = {f"n{i}": [f"n{p}" for p in range(i) if chance.random() < 0.2] for i in range(count)}
        options = {
            node: StepOptions(
                cpus=chance.choice([0.5, 1.0, 2.0]),
                gpus=chance.randrange(gpus + 1) if chance.random() < 0.5 else 0,
                tokens=chance.choice(
                    [{}, {"database": 1}, {"database": 2}, {"licence": 2}, {"database": 1, "licence": 3}]
                ),
                retries=RetryPolicy(count=chance.randrange(3), delay_s=0.1),
                max_parallel=chance.choice([None, 1]),
                total_timeout_s=chance.choice([None, None, 2.0]),
                priority=chance.choice([0, 0, 3]),
            )
            for node in edges
        }
        run = world.add(
            f"run{number}", edges, options, at=chance.random(), priority=chance.choice([0, 0, 1]),
            max_parallel=chance.choice([None, None, 2]), fail_fast=chance.random() < 0.5,
        )  # fmt: skip
        run.faults = {"fail": chance.choice([0.0, 0.3]), "grow": chance.choice([0.0, 0.5])}
        for _ in range(chance.randrange(3)):
            at, node = 1 + 4 * chance.random(), chance.choice(list(edges))
            events = [CancelRequested("no", node), ClaimLost(node), CancelRequested("stop")]
            event = chance.choices(events, [2, 2, 1])[0]
            world.at(at, run, lambda run=run, event=event: run.finished or run.hear(event))
        if chance.random() < 0.2:
            world.at(3 * chance.random(), run, lambda run=run: (setattr(run, "dead", True), run.running.clear()))
    world.go()


# How they wait


def test_steps_that_wait_for_the_same_ask_as_often_as_one_of_them():
    world = World(capacity=Capacity(64, slots=64))
    edges, options = many(40, tokens={"database": 1})
    run = world.add("one", edges, options)
    world.go()
    assert run.finished is Status.SUCCEEDED
    assert world.now >= 40 * 0.5 / 2, "two at a time"
    assert world.asked["one"] <= 40 + 10 * 40, "all at first; then one for each that ends, and polls of one of them"


def test_a_step_that_waits_for_tokens_leaves_its_room_to_others():
    world = World(capacity=Capacity(1, slots=1))
    options = {"waits": StepOptions(tokens={"database": 2}, priority=1), "free": StepOptions()}
    holder = world.add("holder", {"h": ()}, {"h": StepOptions(tokens={"database": 1})}, takes=10.0)
    run = world.add("one", dict.fromkeys(options, ()), options, at=0.1)
    world.go()
    assert [node for node, _, _ in run.spans] == ["free", "waits"]
    assert run.reasons["waits"].startswith("short of database")
    assert run.waits["waits"] > 3.0
    assert "free" not in run.waits
    assert holder.waits == {}


def test_a_step_begins_at_once_when_one_of_its_run_gives_tokens_back():
    world = World(capacity=Capacity(9, slots=9))
    edges, options = many(6, tokens={"licence": 3})
    run = world.add("one", edges, options)
    world.go()
    ends = sorted(end for _, _, end in run.spans)
    total = sum(end - begin for begin, end in itertools.pairwise([0.0, *ends]))
    assert total == pytest.approx(world.now), "no time between them"
    assert set(run.waits) == set(edges) - {run.spans[0][0]}


def test_what_another_run_gives_back_is_taken_soon_by_the_first_of_those_that_wait():
    world = World(capacity=Capacity(9, slots=9))
    holder = world.add("holder", {"h": ()}, {"h": StepOptions(tokens={"database": 2})})
    run = world.add("one", *many(4, tokens={"database": 2}), at=0.2)
    world.go()
    ((_, _, free_at),) = holder.spans
    assert free_at <= run.begun["s00"] <= free_at + TOKENS_POLL_MOST_S


def test_what_a_dead_run_held_is_free_for_others():
    world = World()
    holder = world.add("holder", {"h": ()}, {"h": StepOptions(tokens={"database": 2})}, takes=1e6)
    run = world.add("one", {"a": ()}, {"a": StepOptions(tokens={"database": 1})}, at=0.5)
    world.at(3.0, holder, lambda: (setattr(holder, "dead", True), holder.running.clear()))
    world.go()
    assert run.finished is Status.SUCCEEDED
    assert 3.0 <= run.begun["a"] <= 3.0 + TOKENS_POLL_MOST_S


def test_a_cancelled_step_that_waited_leaves_its_turn_to_the_next():
    world = World()
    holder = world.add("holder", {"h": ()}, {"h": StepOptions(tokens={"database": 2})}, takes=5.0)
    edges, options = many(3, tokens={"database": 2})
    run = world.add("one", edges, options, at=0.1)
    for node in ("s00", "s01"):
        world.at(1.0, run, lambda node=node: run.hear(CancelRequested("no", node)))
    world.go()
    assert run.status == {"s00": Status.CANCELLED, "s01": Status.CANCELLED, "s02": Status.SUCCEEDED}
    assert holder.finished is Status.SUCCEEDED


def test_a_later_run_of_larger_priority_goes_first():
    world = World(capacity=Capacity(9, slots=9))
    low = world.add("low", *many(20, tokens={"licence": 3}))
    high = world.add("high", *many(5, tokens={"licence": 3}), at=2.0, priority=1)
    world.go()
    last = max(end for _, _, end in high.spans)
    between = [node for node, _, end in low.spans if 2.0 + 1.5 + 0.5 < end <= last]
    assert between == [], "one step of the other run was under way, then it was its turn"


@pytest.mark.parametrize("tokens", [{"database": 1}, {"licence": 3}, {}])
def test_two_equal_runs_of_fifty_steps_share_evenly(tokens):
    world = World(capacity=Capacity(3, slots=3), shared=not tokens)
    first = world.add("first", *many(50, tokens=tokens))
    second = world.add("second", *many(50, tokens=tokens), at=0.4)
    world.go()
    ends = {run.name: sorted(end for _, _, end in run.spans) for run in (first, second)}
    half = min(times[-1] for times in ends.values())
    done = {name: sum(end <= half for end in times) for name, times in ends.items()}
    assert max(done.values()) == 50
    assert min(done.values()) >= 40, "the other one is nearly through"


def test_a_step_that_asks_for_all_of_a_token_gets_it_though_others_come_and_go():
    world = World(capacity=Capacity(9, slots=9))
    stream = world.add("stream", *many(60, tokens={"licence": 1}))
    large = world.add("large", {"a": ()}, {"a": StepOptions(tokens={"licence": 3})}, at=2.0)
    world.go()
    assert large.spans[0][2] < 10.0 < max(end for _, _, end in stream.spans)


# Before anything runs


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tokens": {"databse": 1}}, "'databse', which is not configured; did you mean 'database'"),
        ({"tokens": {"database": 3}}, "3 of token 'database', but in all there are 2: ask for fewer"),
        ({"gpus": 1}, "gpus=1, but target 'local' has 0 gpus"),
        ({"cpus": 4.5}, "cpus=4.5, but target 'local' has 4 cpus"),
    ],
)
def test_what_can_never_be_had_is_refused(options, told):
    with pytest.raises(ConfigurationError, match=told):
        World().add("one", {"a": ()}, {"a": StepOptions(**options)})


def test_a_token_where_there_are_none_is_refused_with_the_remedy():
    graph = trivial_graph({"a": ()}, options={"a": StepOptions(tokens={"database": 1})})
    with pytest.raises(ConfigurationError, match=r"there are none\); add database = 1 under \[tokens\] in pipes.toml"):
        RunState(graph, {"local": Capacity(1)}, {"a": "local"}, {}, lambda: 0.5)
