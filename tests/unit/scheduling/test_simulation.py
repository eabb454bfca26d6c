"""Laws of scheduling, over random graphs, faults and orders of events."""

import dataclasses
import random

import networkx as nx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import GroupNode
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import RetryPolicy, StepOptions
from mlflow_pipes.scheduling.policy import critical_path_s, retry_delay_s
from mlflow_pipes.testing.simulator import Faults, Simulation, trivial_graph


@st.composite
def edges(draw, most=18):
    count = draw(st.integers(1, most))
    found = {}
    for index in range(count):
        parents = draw(st.sets(st.integers(0, max(0, index - 1)), max_size=4)) if index else set()
        found[f"n{index}"] = [f"n{parent}" for parent in sorted(parents)]
    return found


probabilities = st.sampled_from([0.0, 0.1, 0.4])
faults = st.builds(
    Faults,
    fail=probabilities,
    lost=probabilities,
    hit=probabilities,
    held=st.sampled_from([0.0, 0.3]),
    duplicate=probabilities,
    late=probabilities,
    lost_input=st.sampled_from([0.0, 0.2]),
    grow=st.sampled_from([0.0, 0.0, 0.3, 0.6]),
    cancel_at=st.sampled_from([None, None, 0.0, 1.5, 4.0]),
    cancel_step_at=st.sampled_from([None, None, 0.5, 2.0]),
)


@settings(deadline=None, max_examples=75)
@given(edges=edges(), faults=faults, seed=st.integers(0, 10_000), slots=st.integers(1, 4), fail_fast=st.booleans())
@example(  # a lost output whose own input could not be made again
    edges={"n0": [], "n1": ["n0"], "n2": [], "n3": ["n0", "n2"], "n4": ["n3"], "n5": [], "n6": ["n0", "n1", "n2", "n3"],
           "n7": ["n0", "n4"], "n8": ["n0"]},
    faults=Faults(lost=0.1, lost_input=0.2), seed=393, slots=3, fail_fast=False,
)  # fmt: skip
def test_whatever_goes_wrong_every_run_ends_in_order_and_leaks_nothing(edges, faults, seed, slots, fail_fast):
    rng = random.Random(seed)
    options = {
        node: StepOptions(
            cpus=rng.choice([0.5, 1.0]),
            retries=RetryPolicy(count=rng.randrange(3), delay_s=0.1),
            optional=rng.random() < 0.2,
            max_parallel=rng.choice([None, 1, 2]),
            total_timeout_s=rng.choice([None, None, 1.0, 5.0]),
        )
        for node in edges
    }
    tolerant = {(node, parent) for node, parents in edges.items() for parent in parents if rng.random() < 0.2}
    hooks = {f"hook-{time}": time for time in ("on_success", "on_failure", "always") if rng.random() < 0.3}
    graph = trivial_graph(
        {**edges, **dict.fromkeys(hooks, ())}, options=options, fail_fast=fail_fast, tolerant=tolerant, hooks=hooks,
        max_parallel=rng.choice([None, None, 1, 3]),
    )  # fmt: skip
    simulation = Simulation(
        graph,
        capacity=Capacity(slots, slots=slots),
        duration_s=lambda _: rng.uniform(0.1, 2.0),
        faults=faults,
        seed=seed,
    )
    trace = simulation.run(events_at_most=200_000)
    assert trace.finished is not None, "the run never ended"
    assert trace.broken == []
    assert trace.claims == set(), "a claimed key was not given back"
    assert all(status.ended for status in trace.status.values())
    if faults.lost_input == 0.0:
        assert all(count == 1 for count in trace.ends.values()), "a step ended well more than once"
    excused = bool(tolerant) or any(one.optional for one in options.values()) or faults.grow
    if trace.finished is Status.SUCCEEDED and not excused:
        assert all(trace.status[node].good for node in edges)
    if trace.finished is Status.FAILED:
        assert Status.FAILED in trace.status.values()
    for hook, time in hooks.items():
        wanted = {"on_success": Status.SUCCEEDED, "on_failure": Status.FAILED}.get(time)
        runs = wanted is None or wanted is simulation.outcome
        assert trace.status[hook] is Status.CANCELLED or runs == (trace.status[hook] is not Status.SKIPPED)


@settings(deadline=None, max_examples=30)
@given(edges=edges(most=30), seed=st.integers(0, 10_000), slots=st.integers(1, 6))
def test_the_makespan_is_within_grahams_bound(edges, seed, slots):
    rng = random.Random(seed)
    seconds = {node: rng.uniform(0.1, 3.0) for node in edges}
    graph = trivial_graph(edges)
    trace = Simulation(graph, capacity=Capacity(slots, slots=slots), duration_s=seconds.__getitem__, seed=seed).run()
    dag = nx.DiGraph([(parent, node) for node, parents in edges.items() for parent in parents])
    dag.add_nodes_from(edges)
    finish = {}
    for node in nx.topological_sort(dag):
        finish[node] = seconds[node] + max((finish[parent] for parent in dag.predecessors(node)), default=0.0)
    critical = max(finish.values())
    assert trace.makespan_s <= sum(seconds.values()) / slots + (1 - 1 / slots) * critical + 1e-6


@settings(deadline=None, max_examples=30)
@given(edges=edges(), faults=faults, seed=st.integers(0, 1_000))
def test_the_same_events_give_the_same_commands(edges, faults, seed):
    def trace():
        graph = trivial_graph(edges)
        return Simulation(graph, capacity=Capacity(2, slots=2), duration_s=len, faults=faults, seed=seed).run()

    assert trace() == trace()


@settings(deadline=None, max_examples=30)
@given(edges=edges(), seed=st.integers(0, 1_000), fail=st.sampled_from([0.0, 0.3]))
def test_a_group_ends_when_all_in_it_has_ended_with_the_worst_of_their_statuses(edges, seed, fail):
    rng = random.Random(seed)
    groups = {node: rng.choice([None, "outer", "outer/inner"]) for node in edges}
    graph = trivial_graph(edges, groups=groups, fail_fast=False)
    graph = dataclasses.replace(
        graph,
        groups={"outer": GroupNode("outer", "outer"), "outer/inner": GroupNode("outer/inner", "inner", group="outer")},
    )
    faults = Faults(fail=fail, lost_input=0.1)
    trace = Simulation(graph, capacity=Capacity(2, slots=2), duration_s=lambda _: 1.0, faults=faults, seed=seed).run()
    inside = [trace.status[node] for node in edges if groups[node]]
    assert trace.status["outer"].ended
    assert (trace.status["outer"] is Status.FAILED) == (Status.FAILED in inside)


def test_a_step_bigger_than_its_target_is_refused_before_anything_runs():
    graph = trivial_graph({"train": []}, options={"train": StepOptions(cpus=8)})
    with pytest.raises(ConfigurationError, match=r"'train' asks for cpus=8, but target 'local' has 2 cpus"):
        Simulation(graph, capacity=Capacity(2, slots=2), duration_s=lambda _: 1.0)


def test_ten_thousand_steps_are_scheduled_in_linear_time():
    edges = {"first": [], **{f"n{i}": ["first"] for i in range(10_000)}, "last": [f"n{i}" for i in range(10_000)]}
    trace = Simulation(trivial_graph(edges), capacity=Capacity(2, slots=2), duration_s=lambda _: 1.0).run()
    assert trace.finished is Status.SUCCEEDED
    assert len(trace.spans) == 10_002


def test_the_critical_path_counts_a_node_and_all_below_it():
    order, children = ["a", "b", "c"], {"a": ["b", "c"]}
    assert critical_path_s(order, children, {"a": 1.0, "b": 5.0}, 2.0) == {"a": 6.0, "b": 5.0, "c": 2.0}


@given(failures=st.integers(1, 500), chance=st.floats(0, 0.999), jitter=st.floats(0, 1))
def test_the_wait_before_a_retry_is_never_negative_nor_beyond_its_bound(failures, chance, jitter):
    policy = RetryPolicy(count=1, delay_s=1.0, max_delay_s=60.0, jitter=jitter)
    assert 0.0 <= retry_delay_s(policy, failures, chance) <= 60.0 * (1 + jitter)
