"""Laws of forecasts, over random graphs and sizes of targets."""

import dataclasses
import random

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.forecast import schedule
from mlflow_pipes.testing.scenarios import trivial_graph


@st.composite
def edges(draw, most=20):
    found = {}
    for index in range(draw(st.integers(1, most))):
        parents = draw(st.sets(st.integers(0, max(0, index - 1)), max_size=4)) if index else set()
        found[f"n{index}"] = [f"n{parent}" for parent in sorted(parents)]
    return found


def durations_of(edges, seed):
    rng = random.Random(seed)
    return {node: rng.choice([0.0, rng.uniform(0.1, 3.0)]) for node in edges}


def on_local(graph, seconds, slots, **more):
    return schedule(
        graph,
        capacities={"local": Capacity(slots, slots=slots)},
        target_of=dict.fromkeys(graph.nodes, "local"),
        durations=seconds,
        **more,
    )


def longest(edges, seconds):
    dag = nx.DiGraph([(parent, node) for node, parents in edges.items() for parent in parents])
    dag.add_nodes_from(edges)
    finish = {}
    for node in nx.topological_sort(dag):
        finish[node] = seconds[node] + max((finish[parent] for parent in dag.predecessors(node)), default=0.0)
    return max(finish.values())


@given(edges=edges(), seed=st.integers(0, 10_000), slots=st.integers(1, 6))
def test_no_forecast_is_below_its_bounds_or_above_grahams(edges, seed, slots):
    seconds = durations_of(edges, seed)
    told = on_local(trivial_graph(edges), seconds, slots)
    work, path = sum(seconds.values()), longest(edges, seconds)
    assert told.longest_path_s == pytest.approx(path)
    assert told.work_bound_s == pytest.approx(work / slots)
    assert told.makespan_s >= max(told.longest_path_s, told.work_bound_s) - 1e-9
    assert told.makespan_s <= work / slots + (1 - 1 / slots) * path + 1e-6


@given(edges=edges(), seed=st.integers(0, 10_000), slots=st.integers(1, 4))
def test_the_critical_path_of_a_forecast_has_no_gap_and_ends_at_the_makespan(edges, seed, slots):
    told = on_local(trivial_graph(edges), durations_of(edges, seed), slots)
    assert sum(link.took_s for link in told.path) == pytest.approx(told.makespan_s)
    assert all(link.waited_s == 0.0 for link in told.path)
    assert told.path[-1].end == told.makespan_s


@given(edges=edges(), seed=st.integers(0, 10_000), slots=st.integers(1, 4), cpus=st.sampled_from([1.0, 2.0, 4.5]))
def test_no_target_is_overfull_and_every_step_runs_once_after_its_parents(edges, seed, slots, cpus):
    rng = random.Random(seed)
    options = {node: StepOptions(cpus=rng.choice([0.5, 1.0]), memory_bytes=rng.choice([0, 1, 3])) for node in edges}
    graph = trivial_graph(edges, options=options)
    capacity = Capacity(cpus, memory_bytes=4, slots=slots)
    seconds = durations_of(edges, seed)
    told = schedule(
        graph, capacities={"t": capacity}, target_of=dict.fromkeys(edges, "t"), durations=seconds, estimates={}
    )
    ended = {step.node: step.end for step in told.steps}
    assert sorted(ended) == sorted(edges)
    for step in told.steps:
        assert step.end == step.start + seconds[step.node]
        assert all(ended[parent] <= step.start for parent in edges[step.node])
        beside = [other.node for other in told.steps if other.start <= step.start < other.end]
        assert len(beside) <= slots
        assert sum(options[node].cpus for node in beside) <= cpus
        assert sum(options[node].memory_bytes for node in beside) <= 4
    (use,) = told.targets
    assert 0.0 <= use.utilisation <= 1.0 + 1e-9


@given(edges=edges(), seed=st.integers(0, 10_000), limit=st.integers(1, 3))
def test_no_more_tokens_are_used_than_there_are_and_none_lies_idle(edges, seed, limit):
    rng = random.Random(seed)
    options = {node: StepOptions(tokens=rng.choice([{}, {"database": 1}])) for node in edges}
    seconds = {node: 0.1 + seconds for node, seconds in durations_of(edges, seed).items()}
    told = schedule(
        trivial_graph(edges, options=options),
        capacities={"t": Capacity(99, slots=99)},
        target_of=dict.fromkeys(edges, "t"),
        durations=seconds,
        tokens={"database": limit},
    )
    ended = {step.node: step.end for step in told.steps}
    for step in told.steps:
        beside = [other.node for other in told.steps if other.start <= step.start < other.end]
        assert sum("database" in options[node].tokens for node in beside) <= limit
        ready = max((ended[parent] for parent in edges[step.node]), default=0.0)
        begun_by_others = [other for other in ended.values() if other == step.start]
        assert step.start == ready or begun_by_others, "it begins when its inputs are there, or a token is given back"


@given(edges=edges(), seed=st.integers(0, 10_000))
def test_what_is_known_takes_neither_time_nor_room(edges, seed):
    rng = random.Random(seed)
    seconds = durations_of(edges, seed)
    known = {node for node in edges if rng.random() < 0.5}
    told = on_local(trivial_graph(edges), seconds, 1, known=known)
    assert told.makespan_s == pytest.approx(sum(seconds[node] for node in edges if node not in known))
    assert {step.node for step in told.steps if not step.target} == known


def test_work_is_spread_over_the_targets_that_steps_name():
    graph = trivial_graph({"a": [], "b": [], "c": ["a"]})
    told = schedule(
        graph,
        capacities={"local": Capacity(2, slots=2), "gpu": Capacity(1, slots=1)},
        target_of={"a": "gpu", "b": "gpu", "c": "local"},
        durations={"a": 2.0, "b": 3.0, "c": 1.0},
    )
    assert told.makespan_s == 5.0
    assert told.work_bound_s == 5.0
    use = {target.target: (target.steps, target.utilisation) for target in told.targets}
    assert use == {"gpu": (2, 1.0), "local": (1, 0.1)}


def test_a_pipelines_timeout_does_not_cut_a_forecast_short():
    graph = dataclasses.replace(trivial_graph({"a": [], "b": ["a"]}), timeout_s=1.0)
    assert on_local(graph, {"a": 2.0, "b": 2.0}, 1).makespan_s == 4.0


def test_a_step_bigger_than_its_target_is_refused():
    graph = trivial_graph({"train": []}, options={"train": StepOptions(cpus=8)})
    with pytest.raises(ConfigurationError, match="'train' asks for cpus=8"):
        on_local(graph, {"train": 1.0}, 2)


def test_an_empty_pipeline_takes_no_time():
    told = on_local(trivial_graph({}), {}, 1)
    assert (told.makespan_s, told.path, told.longest_path_s) == (0.0, (), 0.0)


def test_an_hour_on_a_hundred_machines_is_forecast_without_waiting():
    edges = {f"n{i}": [] for i in range(5_000)}
    told = on_local(trivial_graph(edges), dict.fromkeys(edges, 72.0), 100)
    assert told.makespan_s == 3600.0
    assert told.targets[0].utilisation == pytest.approx(1.0)
