"""``plan`` of steps that return calls and of maps: what is known is taken apart, the rest says what it hangs on."""

import pytest

from mlflow_pipes import RunOutcome, Workspace, pipeline, plan, run, simulate, step

pytestmark = pytest.mark.integration


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def double(x: int) -> int:
    return 2 * x


@step
def add(values: list[int]) -> int:
    return sum(values)


@step
def choose(x: int) -> int:
    return add([double(x), double(x + 1)])


@step
def countdown(n: int) -> int:
    return countdown(n - 1) if n else 0


@step(reuse="never")
def effect(x: int) -> int:
    return x


@step
def with_effect(x: int) -> int:
    return effect(double(x))


@step
def tell(outcome: RunOutcome) -> str:
    return outcome.status


@pipeline
def mapped(count: int):
    return add(double.map(numbers(count)))


@pipeline
def known_map(values: list[int]):
    return add(double.map(values))


@step
def product(x: int, y: int) -> int:
    return x * y


@pipeline
def products():
    return product.map_product([1, 2], [3, 4]), choose.map([1])


@pipeline(on_success=tell, on_failure=tell.options(name="alarm"), always=tell.options(name="at last"))
def hooked():
    return double(1)


@pipeline
def below(x: int):
    return double(with_effect(x))


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as opened:
        yield opened


def go(call, workspace):
    return run(call, workspace=workspace, observers=(), target="inline")


def actions(call, workspace):
    return {one.node: one.action for one in plan(call, workspace=workspace).steps}


def test_a_map_over_a_list_to_come_may_run(workspace):
    planned = plan(mapped(3), workspace=workspace)
    assert [one.action for one in planned.steps] == ["run", "maybe-run", "run"]
    assert planned.step("double").reason == "which calls it has depends on the output of numbers"


def test_a_map_over_a_known_list_is_taken_apart(workspace):
    go(known_map([1, 2]), workspace)
    planned = plan(known_map([1, 2, 3]), workspace=workspace)
    assert {one.node: one.action for one in planned.steps} == {
        "double": "run",
        "double[x=1]": "reuse",
        "double[x=2]": "reuse",
        "double[x=3]": "run",
        "add": "maybe-run",
    }
    assert planned.step("double").reason == "1 of the 3 calls it stands for runs"
    assert planned.step("double").estimate_s is None, "its calls have theirs"


@pytest.mark.parametrize("call", [mapped(3), known_map([]), choose(5), countdown(300), products()])
def test_after_a_run_its_plan_is_that_nothing_runs(workspace, call):
    done = go(call, workspace)
    planned = actions(call, workspace)
    assert set(planned.values()) == {"reuse"}
    assert planned.keys() == {one.node for one in done.steps}


def test_an_effect_below_a_reused_step_always_runs_and_what_reads_it_may(workspace):
    go(below(2), workspace)
    planned = plan(below(2), workspace=workspace)
    assert [(one.node, one.action) for one in planned.steps] == [
        ("with_effect", "run"),
        ("with_effect/double", "reuse"),
        ("with_effect/effect", "always-run"),
        ("double", "maybe-run"),
    ]


def test_hooks_are_planned(workspace):
    assert actions(hooked(), workspace) == {
        "double": "run",
        "tell": "maybe-run",
        "alarm": "maybe-run",
        "at last": "always-run",
    }


def test_a_plan_stores_nothing(workspace):
    go(choose(5), workspace)
    before = {digest for digest, _ in workspace.datastore.blobs()}
    plan(known_map(list(range(2000))), workspace=workspace)
    assert {digest for digest, _ in workspace.datastore.blobs()} == before


def test_forecasts_count_the_steps_that_are_declared(workspace):
    go(choose(5), workspace)
    assert simulate(choose(5), workspace=workspace).reused == 1
