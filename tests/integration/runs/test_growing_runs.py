"""Steps that return calls of further steps: what they may return, what is reused, how deep they may go."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlflow_pipes import RunFailed, Workspace, pipeline, run, step

pytestmark = pytest.mark.integration


class Pair(NamedTuple):
    low: int
    high: int


@step
def double(x: int) -> int:
    return 2 * x


@step
def add(values: list[int]) -> int:
    return sum(values)


@step
def choose(x: int) -> int:
    if x > 10:
        return add([double(x), double(x + 1), 1])
    return double(x)


@step
def nested(x: int) -> dict[str, Any]:
    return {"calls": [double(x), 7], "pair": (double(x + 1), "text"), "deeper": {"one": [add([double(x), 3])]}}


@step
def pair(x: int) -> Pair:
    return Pair(low=x, high=double(x))


@step
def plain_list(x: int) -> list[int]:
    double(x)  # not returned
    return [x, x]


@step
def countdown(n: int, done: int = 0) -> int:
    if n == 0:
        return done
    return countdown(n - 1, done + 1)


@step(max_depth=5)
def endless(n: int) -> int:
    return endless(n + 1)


@step
def tree(depth: int) -> int:
    if depth == 0:
        return 1
    return add([tree(depth - 1), tree(depth - 1)])


@pipeline
def cheap(x: int):
    return double(x)


@pipeline
def thorough(x: int):
    once = double(x)
    return add([once, double(once)])


@step
def sub_pipeline(x: int) -> int:
    return thorough(x) if x > 3 else cheap(x)


@step
def with_lambda(x: int) -> int:
    return step(name="later")(_nested_function(x))(x)


def _nested_function(x: int) -> Any:
    def inner(y: int) -> int:
        return x + y

    return inner


@step
def of_many(texts: list[str]) -> list[str]:
    return [length.options(name=f"length {index}")(texts, index) for index in range(4)]


@step
def length(texts: list[str], index: int) -> int:
    return len(texts[index])


@step(reuse="never")
def effect(x: int) -> int:
    return double(x)


@step
def returns_effect(x: int) -> int:
    return written(double(x))


@step(reuse="never")
def written(x: int) -> int:
    return x


@pipeline
def below(x: int):
    chosen = choose(x)
    return double(chosen), nested(1)["pair"][0]


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as opened:
        yield opened


def go(call, workspace, target="inline", **options):
    return run(call, workspace=workspace, observers=(), target=target, **options)


def ran(done):
    return sorted(one.node for one in done.steps if one.attempts)


@pytest.mark.parametrize("target", ["inline", "local"])
def test_the_output_of_a_returned_call_is_the_output_of_the_step(workspace, target):
    done = go(choose(5), workspace, target)
    assert done.output() == 10
    assert [one.node for one in done.steps] == ["choose", "choose/double"]
    assert done.step("choose/double").parent_id == done.step("choose").id
    assert done.step("choose").attempts == 1


@pytest.mark.parametrize("target", ["inline", "local"])
def test_returned_calls_may_need_each_other(workspace, target):
    done = go(below(11), workspace, target)
    assert done.output() == (2 * (22 + 24 + 1), 4)
    assert {"choose/add", "choose/double[x=11]", "choose/double[x=12]"} <= {one.node for one in done.steps}


def test_calls_and_plain_values_are_mixed_in_any_nesting(workspace):
    done = go(nested(1), workspace)
    assert done.output() == {"calls": [2, 7], "pair": (4, "text"), "deeper": {"one": [5]}}


def test_a_named_tuple_of_calls_comes_back_as_that_named_tuple(workspace):
    returned = go(pair(4), workspace).output()
    assert returned == Pair(4, 8)
    assert type(returned) is Pair


@pytest.mark.parametrize("x", [2, 5])
def test_a_sub_pipeline_is_chosen_at_run_time(workspace, x):
    done = go(sub_pipeline(x), workspace)
    assert done.output() == (4 if x == 2 else 30)
    (group,) = done.groups
    assert group.name == ("cheap" if x == 2 else "thorough")
    assert group.parent_id == done.step("sub_pipeline").id
    assert group.status == "succeeded"


def test_a_step_may_return_itself_until_a_condition_holds(workspace):
    done = go(countdown(300), workspace)
    assert done.output() == 300
    assert len(done.steps) == 301
    assert done.steps[-1].node == "countdown~301"


def test_recursion_may_branch(workspace):
    done = go(tree(5), workspace)
    assert done.output() == 32


def test_recursion_without_end_fails_with_a_bound_that_can_be_raised(workspace):
    with pytest.raises(RunFailed) as caught:
        go(endless(0), workspace)
    assert "step 'endless' returned calls that stand 6 deep in each other" in str(caught.value)
    assert "@step(max_depth=12)" in str(caught.value)


def test_a_second_run_runs_nothing(workspace):
    go(below(11), workspace)
    again = go(below(11), workspace)
    assert again.output() == (94, 4)
    assert {one.status.value for one in again.steps} == {"reused"}


def test_only_calls_that_are_new_run_when_a_step_returns_others(workspace):
    go(choose(11), workspace)
    again = go(choose(12), workspace)  # needs double(12), which is known, and double(13)
    assert ran(again) == ["choose", "choose/add", "choose/double[x=13]"]


def test_effects_run_each_time_also_below_a_reused_step(workspace):
    go(returns_effect(2), workspace)
    again = go(returns_effect(2), workspace)
    assert ran(again) == ["returns_effect/written"]
    assert again.step("returns_effect").status == "succeeded"
    assert again.step("returns_effect/double").reused


def test_calls_of_a_step_that_is_never_reused_are_reused(workspace):
    go(effect(2), workspace)
    again = go(effect(2), workspace)
    assert ran(again) == ["effect"]
    assert again.step("effect/double").reused


def test_values_given_to_returned_calls_are_stored_once(workspace):
    texts = [str(number) * 1000 for number in range(200)]
    before = {digest for digest, _ in workspace.datastore.blobs()}
    done = go(of_many(texts), workspace)
    assert done.output() == [1000] * 4
    new = [digest for digest, _ in workspace.datastore.blobs() if digest not in before]
    assert sum(digest.size_bytes > 100_000 for digest in new) == 1


def test_a_function_that_no_worker_can_import_is_refused_with_its_place(workspace):
    with pytest.raises(RunFailed) as caught:
        go(with_lambda(1), workspace)
    assert "inner (test_growing_runs.py:" in str(caught.value)
    assert "a worker cannot import it" in str(caught.value)


EDITED = """
from mlflow_pipes import pipeline, step, run, Workspace

@step
def child(x: int) -> int:
    return x + ONE

ONE = 1

@step
def other(x: int) -> int:
    return x

@step
def parent(x: int) -> list[int]:
    # PARENT
    return [child(x), other(x)]

if __name__ == "__main__":
    done = run(parent(1), target="inline", observers=())
    print(done.output(), *sorted(one.node for one in done.steps if one.attempts))
"""


def ran_file(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "flow.py").write_text(textwrap.dedent(text), encoding="utf-8")
    (folder / "pipes.toml").touch()
    done = subprocess.run([sys.executable, "flow.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_code_of_a_child_is_code_of_its_parent(tmp_path):
    assert ran_file(tmp_path, EDITED) == "[2, 1] parent parent/child parent/other"
    assert ran_file(tmp_path, EDITED) == "[2, 1]"
    assert ran_file(tmp_path, EDITED.replace("ONE = 1", "ONE = 2")) == "[3, 1] parent parent/child"
    assert ran_file(tmp_path, EDITED.replace("ONE = 1", "ONE = 2").replace("# PARENT", "x += 0")) == "[3, 1] parent"


def test_two_checkouts_in_different_folders_share_what_was_returned(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPES_WORKSPACE", str(tmp_path / "shared"))
    assert ran_file(tmp_path / "one", EDITED) == "[2, 1] parent parent/child parent/other"
    assert ran_file(tmp_path / "another folder", EDITED) == "[2, 1]"


TYPED_IN = """
from mlflow_pipes import pipeline, step, run

@step
def child(x: int) -> int:
    return x + 1

@step
def parent(x: int) -> list[int]:
    return child.map([x, x + 1])

@step
def again(x: int) -> int:
    return again(x - 1) if x else 0

for _ in range(2):
    done = run(parent(1), target=TARGET, observers=())
    print(done.output(), *sorted(one.node for one in done.steps if one.attempts))
print(run(again(3), target=TARGET, observers=()).output())
print(run(child(2), target=TARGET, observers=()).steps[0].status)
"""


@pytest.mark.parametrize("target", ["inline", "local"])
def test_functions_typed_into_an_interpreter_may_return_calls_of_each_other(tmp_path, target):
    (tmp_path / "pipes.toml").touch()
    text = TYPED_IN.replace("TARGET", repr(target))
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, recursion, alone = done.stdout.splitlines()
    assert first == "[2, 3] parent parent/child parent/child[x=1] parent/child[x=2]" or first.startswith(
        "[2, 3] parent"
    )
    assert second == "[2, 3]"
    assert recursion == "0"
    assert alone == "reused", "a child has the same key where the function was typed in and in a worker"
