"""How long nodes are expected to take, and how large targets are taken to be."""

import dataclasses
import math
from dataclasses import replace

import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.machine.capacity import gpus, processors
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.routing import Routing
from mlflow_pipes.testing.scenarios import trivial_graph
from mlflow_pipes.workspace.expected import UNKNOWN_S, expected
from mlflow_pipes.workspace.sizes import capacities_for, capacity_of, configured_capacity, default_target
from mlflow_pipes.workspace.target_configuration import TargetConfiguration

LOCAL = TargetConfiguration("local", "local", {"workers": 3, "memory_bytes": 64})


def graph_of(**steps):
    graph = trivial_graph({node: [] for node in steps})
    nodes = {
        node: dataclasses.replace(graph.nodes[node], step=dataclasses.replace(graph.nodes[node].step, name=name))
        for node, name in steps.items()
    }
    return dataclasses.replace(graph, nodes=nodes)


def test_a_node_takes_what_it_took_last_time():
    told = expected(graph_of(a="s"), took=[("a", "s", 2.0), ("a", "s", 9.0)], estimates={"a": 5.0})
    assert (told.seconds, told.sources) == ({"a": 2.0}, {"a": "node"})


def test_a_node_not_in_recent_runs_takes_its_older_duration():
    assert expected(graph_of(a="s"), took=[], estimates={"a": 5.0}).seconds == {"a": 5.0}


def test_a_new_call_of_a_known_step_takes_the_mean_of_its_other_calls():
    took = [("train[x=1]", "train", 2.0), ("train[x=2]", "train", 4.0), ("train[x=2]", "train", 40.0)]
    told = expected(graph_of(new="train"), took=took, estimates={})
    assert (told.seconds, told.sources) == ({"new": 3.0}, {"new": "step"})


def test_an_unknown_step_takes_the_mean_of_the_others_or_what_is_said():
    graph = graph_of(a="s", b="other")
    assert expected(graph, took=[("a", "s", 2.0)], estimates={"x": 4.0}).seconds["b"] == 3.0
    told = expected(graph, took=[("a", "s", 2.0)], estimates={}, guess_s=9.0)
    assert (told.seconds["b"], told.sources["b"], told.guess_s) == (9.0, "guess", 9.0)
    assert expected(graph, took=[], estimates={}).seconds == {"a": UNKNOWN_S, "b": UNKNOWN_S}


def test_sizes_are_told_as_workers_cpus_and_memory():
    assert capacity_of("t", 4) == Capacity(4.0, 0, 4)
    assert capacity_of("t", {"cpus": 8, "memory": "64GiB"}) == Capacity(8.0, 64 * 2**30, 8)
    assert capacity_of("t", {"cpus": 0.5}) == Capacity(0.5, 0, 1)
    assert capacity_of("t", {"workers": 2, "cpus": 8}) == Capacity(8.0, 0, 2)
    assert capacity_of("t", {"workers": 2, "gpus": 1.0}) == Capacity(2.0, 0, 2, gpus=1)
    assert capacity_of("t", Capacity(1.5, slots=9)) == Capacity(1.5, slots=9)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "workers must be a number above 0, not 0"),
        (True, "must be a number of workers"),
        ({"cpu": 1}, "unknown 'cpu'; did you mean 'cpus'"),
        ({"memory": "1GiB"}, "must say workers or cpus"),
        ({"workers": 1.5}, "workers must be a whole number"),
        ({"cpus": -1}, "cpus must be a number above 0"),
        ({"cpus": math.nan}, "cpus must be a number above 0"),
        ({"cpus": 1, "gpus": 0.5}, "gpus must be a whole number from 0 upwards, not 0.5"),
        ({"cpus": 1, "gpus": math.inf}, "gpus must be a whole number from 0 upwards"),
        ({"workers": 1, "memory": "much"}, "memory must be a size such as"),
        ("8", "must be a number of workers"),
    ],
)
def test_a_size_that_means_nothing_is_refused_by_name(size, told):
    with pytest.raises(ConfigurationError, match=f"target 't'.*{told}"):
        capacity_of("t", size)


def test_a_target_that_is_not_sized_is_as_large_as_configured():
    assert configured_capacity(LOCAL) == Capacity(3.0, 64, 3, gpus=len(gpus()))
    assert configured_capacity(replace(LOCAL, options={"gpus": 5})).gpus == 5
    assert configured_capacity(TargetConfiguration("local", "local")).slots == processors()
    assert configured_capacity(TargetConfiguration("inline", "inline")).slots == 1
    with pytest.raises(ConfigurationError, match=r"target 'big' .*--target big:8"):
        configured_capacity(TargetConfiguration("big", "cluster"))


def test_steps_that_name_no_target_go_where_a_run_would_put_them_or_to_the_one_sized():
    graph = trivial_graph({"a": [], "b": []}, options={"b": StepOptions(target="gpu")})
    assert default_target(graph, {}, Routing("local")) == "local"
    assert default_target(graph, {"gpu": 1, "local": 2}, Routing("local")) == "local"
    assert default_target(graph, {"big": 64, "gpu": 1}, Routing("local")) == "big"
    with pytest.raises(ConfigurationError, match="no step runs on target 'lcal'; did you mean 'local'"):
        default_target(graph, {"local": 1, "lcal": 1}, Routing("local"))
    capacities, target_of = capacities_for(graph, {"gpu": 1}, {"local": LOCAL}, Routing("local"))
    assert (capacities["gpu"].slots, capacities["local"].slots) == (1, 3)
    assert target_of == {"a": "local", "b": "gpu"}
    with pytest.raises(ConfigurationError, match="'gpu' is not configured"):
        capacities_for(graph, {}, {"local": LOCAL}, Routing("local"))
