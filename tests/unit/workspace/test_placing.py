"""What is said before anything runs of steps that have no place."""

import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.routing import Routing, Rule
from mlflow_pipes.testing.scenarios import trivial_graph
from mlflow_pipes.workspace.placing import check_places
from mlflow_pipes.workspace.target_configuration import TargetConfiguration

SMALL = TargetConfiguration("small", "local", {"workers": 2, "memory_bytes": 2 << 30, "gpus": 0})
LARGE = TargetConfiguration("large", "local", {"workers": 64, "memory_bytes": 64 << 30, "gpus": 2})
UNKNOWN = TargetConfiguration("far", "of-another-package")
CONFIGURED = {"small": SMALL, "large": LARGE, "far": UNKNOWN}
TO_SMALL = Routing("small")


def check(routing=TO_SMALL, configured=CONFIGURED, **options):
    nodes = trivial_graph({"train": []}, options={"train": StepOptions(**options)}).nodes
    return check_places(nodes.values(), routing, configured)


def test_where_each_step_goes_is_told_with_what_named_it():
    assert check() == {"train": ("small", "the workspace")}
    assert check(cpus=64, target="large") == {"train": ("large", "the step")}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gpus": 1}, r"'train' asks for gpus=1, but target 'small' has 0 gpus in all: .*such as 'large' \(the work"),
        ({"cpus": 8}, r"cpus=8, but target 'small' has 2 cpus in all: .*such as 'large'"),
        ({"memory_bytes": 3 << 30}, r"memory=3221225472, but target 'small' has 2,147,483,648 bytes"),
        ({"cpus": 100}, r"cpus=100, but .* of those configured none is known to have that"),
        ({"cpus": 8, "gpus": 1}, r"cpus=8 and gpus=1, but target 'small' has 2 cpus and 0 gpus in all: .*'large'"),
    ],
)
def test_a_request_that_is_too_big_is_named_with_a_target_that_would_do(options, told):
    with pytest.raises(ConfigurationError, match=told):
        check(**options)


def test_the_rule_that_sent_a_step_to_a_target_too_small_is_named():
    routing = Routing("large", rules=(Rule("small", source="nightly.toml: rules[1]"),))
    with pytest.raises(ConfigurationError, match=r"\(nightly\.toml: rules\[1\] named 'small'\)"):
        check(routing, gpus=2)


def test_a_target_whose_size_only_its_run_knows_is_left_to_the_run():
    assert check(Routing("far"), cpus=1000) == {"train": ("far", "the workspace")}


DASK = {"workers": 4, "arguments": {"threads_per_worker": 2, "memory_limit": "4 GiB"}}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"cpus": 3},
            r"'train' asks for cpus=3, but target 'here' has 2 cpus in each worker: ask for less, or .*'large'",
        ),
        ({"memory_bytes": 5 << 30}, r"target 'here' has 4,294,967,296 bytes of memory in each worker"),
        ({"gpus": 1}, r"target 'here' has 0 gpus in each worker"),
    ],
)
def test_a_step_that_no_worker_of_a_dask_cluster_will_hold_is_told_before_it_is_made(options, told):
    configured = {**CONFIGURED, "here": TargetConfiguration("here", "dask", DASK)}
    assert check(Routing("here"), configured, cpus=2)
    with pytest.raises(ConfigurationError, match=told):
        check(Routing("here"), configured, **options)


def test_a_dask_cluster_whose_workers_only_it_knows_is_left_to_the_run():
    for options in ({"address": "tcp://far:8786"}, {"workers": 2}, {"cluster": "dask_jobqueue.SLURMCluster"}):
        assert check(Routing("here"), {"here": TargetConfiguration("here", "dask", options)}, cpus=1000)


@pytest.mark.parametrize(
    ("type_", "options", "told"),
    [
        ("ssh", {"port": 22}, r"^pipes\.toml: target 'here': a target of type ssh needs a `host`"),
        ("ssh", {"host": "-oProxyCommand=x"}, r"^pipes\.toml: target 'here': host '-oProxyCommand=x' is no host"),
        ("dask", {"workers": 2, "maximum": 3}, r"^pipes\.toml: target 'here': a Dask cluster has either `workers`"),
        ("dask", {"address": "tcp://a:1", "cluster": "a.B"}, r"^pipes\.toml: target 'here': .*leave out `cluster`"),
    ],
)
def test_what_of_a_target_does_not_go_together_is_told_with_its_place(type_, options, told):
    with pytest.raises(ConfigurationError, match=told):
        check(Routing("here"), {"here": TargetConfiguration("here", type_, options, source="pipes.toml")})


def test_a_target_that_is_not_configured_is_named_with_the_near_one():
    with pytest.raises(ConfigurationError, match=r"'smal' \(named by the step\), .*did you mean 'small'.*\[targets"):
        check(target="smal")
