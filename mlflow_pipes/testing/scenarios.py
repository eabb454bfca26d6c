"""Scenarios: everything that a simulated run is made of, as frozen records that are made from one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from random import Random
from typing import Any

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import Graph, GroupNode, HookTime, Output, StepNode
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction, RetryPolicy, StepDefinition, StepOptions
from mlflow_pipes.quick_dataclasses import dataclass

DEEPEST = 3
"""How deep calls that steps return may stand in each other."""

_STEP = StepDefinition("step", CodeFingerprint("0" * 64), PickledFunction("step", b""))


def trivial_graph(
    edges: Mapping[str, Iterable[str]],
    *,
    options: Mapping[str, StepOptions] | None = None,
    fail_fast: bool = True,
    timeout_s: float | None = None,
    groups: Mapping[str, str] | None = None,
    tolerant: Collection[tuple[str, str]] = (),
    hooks: Mapping[str, HookTime] | None = None,
    max_parallel: int | None = None,
) -> Graph:
    """Return a graph of steps that stand for nothing, from each node's parents; parents must come first.

    *tolerant* are the edges (node, parent) by which a node accepts its parent's failure.
    """
    nodes = {
        node: StepNode(
            id=node,
            step=_STEP,
            arguments={
                f"p{i}": Output(parent, or_failure=(node, parent) in tolerant) for i, parent in enumerate(parents)
            },
            options=(options or {}).get(node, StepOptions()),
            group=(groups or {}).get(node),
            hook=(hooks or {}).get(node),
        )
        for node, parents in edges.items()
    }
    return Graph("simulated", nodes, fail_fast=fail_fast, timeout_s=timeout_s, max_parallel=max_parallel)


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a step.

    Attributes:
        parents: names of tasks that must end well before; they are declared earlier.
        tolerates: those of them whose failure it accepts.
        key: tasks of one key are the same work; by default the name.
        target: where it runs.
        seconds: how long an attempt takes.
    """

    name: str
    parents: tuple[str, ...] = ()
    tolerates: tuple[str, ...] = ()
    hook: HookTime | None = None
    group: str | None = None
    key: str = ""
    target: str = "local"
    seconds: float = 1.0
    options: StepOptions = StepOptions()

    def node(self) -> StepNode:
        """Return the task as a node of a graph."""
        arguments = {f"p{i}": Output(one, or_failure=one in self.tolerates) for i, one in enumerate(self.parents)}
        return StepNode(self.name, _STEP, arguments, self.options, group=self.group, hook=self.hook)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong, as probabilities.

    Attributes:
        fail: an attempt raises.
        lost: its worker dies.
        hit: the cache knows a key from earlier runs.
        held: a run that is not simulated holds a key that is asked for.
        duplicate: an answer comes twice.
        late: an answer comes again much later.
        lost_input: an attempt finds the output of a parent gone.
        unreadable: the arguments of a step cannot be formed.
        grow: a step returns calls of further steps.
        slow: the ledger takes long; half of the time the run can do nothing else meanwhile.
    """

    fail: float = 0.0
    lost: float = 0.0
    hit: float = 0.0
    held: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    lost_input: float = 0.0
    unreadable: float = 0.0
    grow: float = 0.0
    slow: float = 0.0

    @property
    def lose(self) -> bool:
        """Whether outputs may be gone."""
        return self.lost_input > 0 or self.unreadable > 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """At second *at* somebody cancels a run, or (with *name*) one step or sub-pipeline of it."""

    at: float
    name: str | None = None
    run: int = 0


@dataclass(frozen=True, slots=True)
class Silence:
    """At second *at* an orchestrator stands still for some seconds."""

    at: float
    seconds: float
    run: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a simulation is made of; the same scenario always goes the same way.

    Chance depends on *seed* and on what it is about, not on what happened before, so that a smaller scenario goes
    much as the larger one did.

    Attributes:
        capacities: what each target of each run holds.
        starts: the second at which each run begins; all run the same tasks, on one ledger.
        crashes: after how many commands the orchestrator of the first run dies; the run is then started again, and the
            next number counts for that.
        crash_seen: others know at once that an orchestrator is dead; else its claims last for their lease.
    """

    seed: int = 0
    tasks: tuple[Task, ...] = ()
    groups: tuple[GroupNode, ...] = ()
    capacities: Mapping[str, Capacity] = field(default_factory=lambda: {"local": Capacity(1.0)})
    faults: Faults = Faults()
    fail_fast: bool = True
    timeout_s: float | None = None
    max_parallel: int | None = None
    cancels: tuple[Cancel, ...] = ()
    starts: tuple[float, ...] = (0.0,)
    silences: tuple[Silence, ...] = ()
    crashes: tuple[int, ...] = ()
    crash_seen: bool = True

    def chance(self, *about: object) -> float:
        """Return a number in [0, 1) that hangs on the seed and on what it is about."""
        digest = hashlib.blake2b(f"{self.seed}{about}".encode(), digest_size=7).digest()
        return int.from_bytes(digest) / 2**56

    def befalls(self, probability: float, *about: object) -> bool:
        """Tell whether something of a probability happens."""
        return probability > 0.0 and self.chance(*about) < probability

    def graph(self) -> Graph:
        """Return what is run."""
        return Graph(
            "simulated",
            {task.name: task.node() for task in self.tasks},
            {group.id: group for group in self.groups},
            fail_fast=self.fail_fast,
            timeout_s=self.timeout_s,
            max_parallel=self.max_parallel,
        )

    def calls_of(self, name: str, key: str) -> tuple[tuple[Task, ...], tuple[GroupNode, ...]] | None:
        """Return the calls that a task returns; None when it returns a value. The same for all tasks of one key."""
        if not self.befalls(self.faults.grow, "grow", key):
            return None
        group: GroupNode | None = None
        if self.chance("inner", key) < 0.2:
            group = GroupNode(
                f"{name}/g", "g", group=name, max_parallel=1 if self.chance("narrow", key) < 0.5 else None
            )
        tasks: list[Task] = []
        for i in range(int(4 * self.chance("calls", key)) if key.count("/") < DEEPEST else 0):
            own = f"{key}/{i}"
            parents = tuple([earlier.name for earlier in tasks if self.chance("edge", own, earlier.key) < 0.3])
            tolerates = tuple([parent for parent in parents if self.chance("tolerates", own, parent) < 0.3])
            in_group = group is not None and self.chance("in", own) < 0.5
            options = StepOptions(
                cpus=100.0 if self.chance("too big", own) < 0.01 else 0.5,
                retries=RetryPolicy(count=1, delay_s=0.1),
                max_parallel=1 if self.chance("limit", own) < 0.2 else None,
                optional=self.chance("optional", own) < 0.1,
            )
            tasks.append(
                Task(
                    f"{name}/{i}", parents, tolerates, group=f"{name}/g" if in_group else name, key=own,
                    target=list(self.capacities)[int(self.chance("target", own) * len(self.capacities))],
                    seconds=round(0.1 + self.chance("seconds", own), 3), options=options,
                )
            )  # fmt: skip
        return tuple(tasks), () if group is None else (group,)


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    rng = Random(seed)  # noqa: S311 - a simulation, not a secret
    capacities = {
        target: Capacity(rng.choice((1, slots, slots)), memory_bytes=rng.choice((0, 0, 4)), slots=slots)
        for target in ("local", "other")[: rng.choice((1, 1, 2))]
        for slots in [rng.randrange(1, 5)]
    }
    runs = rng.choice((1, 1, 1, 1, 1, 1, 2, 3))
    groups = _groups(rng)
    tasks = _tasks(rng, groups, list(capacities))
    names = [task.name for task in tasks] + [group.id for group in groups]
    cancels = [Cancel(rng.choice((0.0, 1.5, 4.0)), None, rng.randrange(runs))] if rng.random() < 0.3 else []
    cancels += [Cancel(rng.choice((0.5, 2.0)), rng.choice(names), rng.randrange(runs))] if rng.random() < 0.3 else []
    return Scenario(
        seed=seed,
        tasks=tasks,
        groups=groups,
        capacities=capacities,
        faults=_faults(rng),
        fail_fast=rng.random() < 0.5,
        timeout_s=rng.choice((None, None, None, 3.0, 8.0)),
        max_parallel=rng.choice((None, None, 1, 3)),
        cancels=tuple(cancels),
        starts=tuple([round(index * rng.uniform(0.0, 3.0), 2) for index in range(runs)]),
        silences=tuple(_silences(rng, runs)),
        crashes=tuple([rng.randrange(1, 80) for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 2)))]),
        crash_seen=rng.random() < 0.5,
    )


def _faults(rng: Random) -> Faults:
    often = (0.0, 0.1, 0.4)
    return Faults(
        fail=rng.choice(often),
        lost=rng.choice(often),
        hit=rng.choice(often),
        held=rng.choice((0.0, 0.3)),
        duplicate=rng.choice(often),
        late=rng.choice(often),
        lost_input=rng.choice((0.0, 0.0, 0.2)),
        unreadable=rng.choice((0.0, 0.0, 0.0, 0.1)),
        grow=rng.choice((0.0, 0.3, 0.6)),
        slow=rng.choice((0.0, 0.0, 0.2)),
    )


def _groups(rng: Random) -> tuple[GroupNode, ...]:
    groups: list[GroupNode] = []
    for index in range(rng.choice((0, 0, 1, 2, 3))):
        outer = rng.choice([None, *[group.id for group in groups]])
        timeout_s, limit = rng.choice((None, None, 2.0, 5.0)), rng.choice((None, None, 1, 2))
        groups.append(GroupNode(f"g{index}", f"g{index}", {}, outer, timeout_s, limit))
    return tuple(groups)


def _tasks(rng: Random, groups: tuple[GroupNode, ...], targets: list[str]) -> tuple[Task, ...]:
    tasks: list[Task] = []
    count, dense = (60, 0.01) if rng.random() < 0.01 else (rng.randrange(1, 12), 0.25)
    for index in range(count):
        parents = tuple([task.name for task in tasks if rng.random() < dense])
        options = StepOptions(
            cpus=rng.choice((0.5, 1.0)),
            memory_bytes=rng.choice((0, 0, 1, 3)),
            retries=RetryPolicy(count=rng.randrange(3), delay_s=0.1),
            optional=rng.random() < 0.2,
            max_parallel=rng.choice((None, 1, 2)),
            total_timeout_s=rng.choice((None, None, 1.0, 5.0)),
            priority=rng.choice((0, 0, 0, 1, 5)),
        )
        tasks.append(
            Task(
                f"n{index}", parents, tuple([parent for parent in parents if rng.random() < 0.2]),
                group=rng.choice([None, *[group.id for group in groups]]),
                key=rng.choice(tasks).name if tasks and rng.random() < 0.05 else "",
                target=rng.choice(targets), seconds=round(rng.uniform(0.1, 2.0), 3), options=options,
            )
        )  # fmt: skip
    times: tuple[HookTime, ...] = ("on_success", "on_failure", "always")
    hooks = [Task(f"hook-{time}", hook=time) for time in times if rng.random() < 0.25]
    return (*tasks, *hooks)


def _silences(rng: Random, runs: int) -> Iterator[Silence]:
    for run in range(runs):
        if rng.random() < (0.1 if runs == 1 else 0.3):
            yield Silence(round(rng.uniform(0.0, 4.0), 2), rng.choice((0.5, 5.0, 10.0)), run)


def as_python(value: Any) -> str:
    """Return Python that makes a record again, without what is as it is by default."""
    if is_dataclass(value):
        told = []
        for one in fields(value):
            mine = getattr(value, one.name)
            default = one.default_factory() if one.default_factory is not MISSING else one.default
            if mine != default:
                told.append(f"{one.name}={as_python(mine)}")
        return f"{type(value).__name__}({', '.join(told)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {as_python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        items = [as_python(item) for item in value]
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    return repr(value)
