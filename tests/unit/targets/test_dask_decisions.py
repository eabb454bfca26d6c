"""What a Dask target decides without Dask: who fits, who is near, what goes together, what a configuration means."""

import pytest

from mlflow_pipes.digests import Digest
from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.artifact import Collection, Leaf
from mlflow_pipes.model.attempt import Assignment, AttemptId
from mlflow_pipes.model.step import PickledFunction
from mlflow_pipes.targets.dask.members import NEAR_BYTES, Load, Member, Nearness, Wanted, members_of, shortage, wanted
from mlflow_pipes.targets.dask.patience import Patience
from mlflow_pipes.targets.dask.plan import ClusterPlan
from mlflow_pipes.targets.dask.tasks import Pace, Task, task_key


def assignment(number=1, step="train", arguments=None, **fields):
    attempt = AttemptId("run", f"{step}[{number}]", 1)
    return Assignment(attempt, "flow", PickledFunction(step, b""), arguments or {}, **fields)


def member(address, threads=1, memory=0, **resources):
    return Member(address, threads, memory, resources)


def among(*members):
    return {one.address: one for one in members}


def leaf(name, size):
    return Leaf("raw", Digest(name * 64, size))


SMALL, LARGE = member("small"), member("large", threads=8, memory=2**40, GPU=2.0)


def test_what_fits_all_may_go_anywhere_and_what_fits_some_only_there():
    members = among(SMALL, LARGE)
    assert wanted(assignment(), members, None) == Wanted()
    assert wanted(assignment(cpus=4.0), members, None) == Wanted(("large",))
    assert wanted(assignment(gpus=(0, 1)), members, None) == Wanted(resources=(("GPU", 2.0),))


def test_a_step_that_no_worker_fits_is_waited_for_once_and_not_anew_with_each_retry():
    patience = Patience(300.0)
    first = assignment().attempt
    assert not patience.is_over(first, now=0.0)
    assert not patience.is_over(first, now=300.0)
    assert patience.is_over(first, now=301.0)
    retry = first._replace(number=2)
    assert patience.is_over(retry, now=302.0)
    assert not patience.is_over(assignment(2).attempt, now=302.0), "another step has its own"
    patience.fits(retry)
    assert not patience.is_over(retry, now=400.0), "since a worker fitted it, it waits again"


def test_a_worker_that_has_the_inputs_is_preferred_where_it_fits():
    members = among(SMALL, LARGE)
    assert wanted(assignment(), members, "small") == Wanted(("small",), others_too=True)
    assert wanted(assignment(cpus=4.0), members, "small") == Wanted(("large",))
    assert wanted(assignment(), members, "gone") == Wanted()


def test_a_shortage_names_what_is_asked_and_what_there_is():
    assert shortage(assignment(cpus=8.0, gpus=(0,)), among(SMALL, LARGE)) == ""
    told = shortage(assignment(cpus=8.0, gpus=(0, 1, 2), memory_bytes=5), among(SMALL, LARGE))
    assert told.startswith("asks for cpus=8, memory=5 bytes, gpus=3; the largest of 2 workers has 8 threads")
    assert "2 of the resource GPU" in told
    assert shortage(assignment(), {}).endswith("the cluster has no workers")


def test_the_worker_that_made_most_of_the_inputs_is_the_nearest():
    nearness = Nearness()
    nearness.made(leaf("a", 3 * NEAR_BYTES), "one")
    nearness.made(Collection("list", (leaf("b", 2 * NEAR_BYTES), leaf("c", 2 * NEAR_BYTES))), "two")
    nearness.made(leaf("d", 10), "three")
    both = {
        "x": leaf("a", 3 * NEAR_BYTES),
        "y": Collection("tuple", (leaf("b", 2 * NEAR_BYTES), leaf("c", 2 * NEAR_BYTES))),
    }
    assert nearness.nearest(assignment(arguments=both)) == "two"
    assert nearness.nearest(assignment(arguments={"x": both["x"]})) == "one"
    assert nearness.nearest(assignment(arguments={"x": leaf("d", 10)})) is None


def test_the_worker_that_has_the_inputs_is_preferred_unless_it_is_busy_and_another_one_idle():
    members = among(SMALL, member("other"))
    load = Load(members, [])
    assert load.preferred("small") == "small"
    load.add("small")
    assert load.preferred("small") is None, "the other one is idle"
    load.add(None)
    assert load.preferred("small") == "small", "the other one will have something to do"
    assert load.preferred("gone") is None
    assert load.preferred(None) is None


def test_workers_that_are_closing_are_no_members():
    info = {"nthreads": 2, "memory_limit": None, "resources": {"GPU": 1}}
    found = members_of({"workers": {"a": {**info, "status": "running"}, "b": {**info, "status": "closing_gracefully"}}})
    assert found == {"a": member("a", 2, 0, GPU=1)}


def test_attempts_whose_length_is_not_known_are_sent_one_by_one():
    tasks = [Task(assignment(number)) for number in range(8)]
    assert [len(bundle) for bundle in Pace().bundles(tasks, threads=2)] == [1] * 8
    assert Pace().ahead == 2


def test_short_attempts_at_one_step_are_bundled_so_that_every_thread_has_some():
    pace = Pace()
    for _ in range(5):
        pace.took("train", 0.005)
    tasks = [Task(assignment(number)) for number in range(8)] + [Task(assignment(step="other"))]
    assert [len(bundle) for bundle in pace.bundles(tasks, threads=2)] == [4, 4, 1]
    assert pace.ahead == 16
    assert [len(bundle) for bundle in pace.bundles(tasks[:8], threads=100)] == [1] * 8


def test_a_bundle_is_no_longer_than_a_tenth_of_a_second():
    pace = Pace()
    pace.took("train", 0.03)
    tasks = [Task(assignment(number)) for number in range(30)]
    assert max(len(bundle) for bundle in pace.bundles(tasks, threads=1)) == 3
    pace.took("train", 60.0)
    assert max(len(bundle) for bundle in pace.bundles(tasks, threads=1)) == 1


def test_no_two_attempts_have_one_key_and_keys_show_the_step():
    one, retry = assignment(), assignment()
    retry = Assignment(retry.attempt._replace(number=2), "flow", retry.function, {})
    assert task_key(one) == task_key(assignment())
    assert task_key(one) != task_key(retry)
    assert task_key(one).startswith("train-")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"address": "tcp://a:1", "workers": 2}, "has its own workers"),
        ({"address": "tcp://a:1", "arguments": {"cores": 1}}, "has its own workers"),
        ({"workers": 2, "maximum": 4}, "either `workers`, or"),
        ({"minimum": 3}, "needs a maximum"),
        ({"minimum": 3, "maximum": 2}, "needs a maximum"),
    ],
)
def test_what_does_not_go_together_is_told(options, told):
    with pytest.raises(ConfigurationError, match=told):
        ClusterPlan(**options)


def test_what_a_cluster_will_hold_is_guessed_before_it_is_there():
    plan = ClusterPlan(cluster="dask_jobqueue.SLURMCluster", maximum=40, arguments={"cores": 8})
    assert (plan.is_adaptive, plan.most_workers, plan.threads_each, plan.where) == (True, 40, 8, "a SLURMCluster")
    assert ClusterPlan(address="tcp://a:1").most_workers == 1
