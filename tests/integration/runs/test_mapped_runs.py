"""``step.map`` over lists that are known when a run has come so far."""

import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from mlflow_pipes import RunFailed, Workspace, each, pipeline, run, step

pytestmark = pytest.mark.integration


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def double(x: int, by: int = 2) -> int:
    return x * by


@step
def add(values: list[int]) -> int:
    return sum(values)


@step
def power(x: int, y: int) -> int:
    return x**y


@step
def measure(text: str, names: list[str]) -> str:
    return f"{text}{len(names)}"


@step
def by_name(count: int) -> dict[str, int]:
    return {f"n{number}": number for number in range(count)}


@step
def as_tuple(count: int) -> tuple[int, ...]:
    return tuple(range(count))


@step
def undeclared(what: str) -> Any:
    import numpy as np
    import pyarrow as pa

    return {"table": pa.table({"a": [1, 2]}), "array": np.arange(3), "number": 5, "text": "abc"}[what]


@step
def fans_out(count: int) -> int:
    return add(double.map(list(range(count)), by=3))


@step
def halves(x: int) -> int:
    return x if x < 2 else add([halves(x // 2), halves(x - x // 2)])


@step
def present(folder: str, company: int, index: int) -> int:
    """Wait a while for others to be at work at the same time; return how many there were."""
    here = Path(folder)
    mine = here / str(index)
    mine.touch()
    deadline = time.monotonic() + 5
    while len(list(here.iterdir())) < company and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    seen = len(list(here.iterdir()))
    mine.unlink()
    return seen


@step
def present_in_returned(folder: str, count: int) -> list[int]:
    return [present(folder, 2, index) for index in range(count)]


@pipeline
def mapped(count: int):
    return add(double.map(numbers(count), by=3))


@pipeline
def second(count: int):
    doubled = double.map(numbers(count))
    return power(doubled[2], 2)


@pipeline
def over_dict(count: int):
    return double.map(by_name(count))


@pipeline
def over_tuple(count: int):
    return double.map(as_tuple(count))


@pipeline
def over_any(what: str):
    return double.map(undeclared(what))


@pipeline
def zipped(first: int, other: int):
    return power.map(numbers(first), numbers(other))


@pipeline
def combined(first: int, other: int):
    return power.map_product(numbers(first), numbers(other))


@pipeline
def whole_and_parts(names: list[str]):
    return measure.map(names=names, text=each(names))


@pipeline
def mapped_growth(count: int):
    return fans_out.map(numbers(count)), halves.map([3, 4])


@pipeline
def mapped_of_mapped(count: int):
    return double.map(double.map(double.map(numbers(count))))


@pipeline
def limited(folder: str, at_most: int, company: int):
    return present.options(max_parallel=at_most).map(folder=folder, company=company, index=each(list(range(8))))


@pipeline(max_parallel=2)
def limited_run(folder: str):
    return present.map(folder=folder, company=2, index=each(list(range(8))))


@pipeline
def limited_growth(folder: str):
    return present_in_returned.options(max_parallel=2)(folder, 8)


# All fifty thousand items take two minutes.
WIDE = 50_000 if os.environ.get("PIPES_TEST_WHOLE") else 4_000


@pipeline
def wide(count: int):
    return add(double.map(numbers(count)))


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / ".pipes") as opened:
        yield opened


def go(call, workspace, target="inline", **options):
    return run(call, workspace=workspace, observers=(), target=target, **options)


def ran(done):
    return [one.node for one in done.steps if one.attempts]


@pytest.mark.parametrize("target", ["inline", "local"])
def test_a_map_runs_a_call_for_each_item(workspace, target):
    done = go(mapped(4), workspace, target)
    assert done.output() == 18
    assert [one.node for one in done.steps] == ["numbers", "double", "add", *(f"double[x={x}]" for x in range(4))]
    assert {one.parent_id for one in done.steps[3:]} == {done.step("double").id}
    assert done.step("double").attempts == 0


def test_of_a_list_that_grew_by_one_one_item_runs(workspace):
    go(mapped(4), workspace)
    assert ran(go(mapped(5), workspace)) == ["numbers", "add", "double[x=4]"]
    assert ran(go(mapped(5), workspace)) == []


def test_a_map_over_nothing_gives_nothing(workspace):
    assert go(mapped(0), workspace).output() == 0
    assert go(over_dict(0), workspace).output() == {}


def test_a_map_over_a_dict_keeps_its_keys(workspace):
    done = go(over_dict(3), workspace)
    assert done.output() == {"n0": 0, "n1": 2, "n2": 4}
    assert [one.node for one in done.steps][2:] == ["double[n0]", "double[n1]", "double[n2]"]


def test_a_map_over_a_tuple_gives_a_list(workspace):
    assert go(over_tuple(3), workspace).output() == [0, 2, 4]


def test_one_item_of_a_map_can_be_used(workspace):
    assert go(second(3), workspace).output() == 16


def test_an_item_that_is_not_there_fails_what_wanted_it(workspace):
    with pytest.raises(RunFailed, match=r"step 'power'.*list of 2 and has no item 2"):
        go(second(2), workspace)


def test_several_lists_go_together(workspace):
    done = go(zipped(3, 3), workspace)
    assert done.output() == [1, 1, 4]
    assert done.steps[-1].node == "power[x=2, y=2]"


def test_lists_of_different_lengths_are_an_error_that_says_how_long_they_are(workspace):
    with pytest.raises(RunFailed) as caught:
        go(zipped(3, 2), workspace)
    assert "mapped over lists of different lengths (x has 3, y has 2)" in str(caught.value)
    assert "power.map_product(...)" in str(caught.value)


def test_a_product_runs_all_combinations_the_last_changing_fastest(workspace):
    assert go(combined(2, 3), workspace).output() == [1, 0, 0, 1, 1, 1]
    assert go(combined(2, 0), workspace).output() == []


def test_an_argument_by_name_is_shared_and_each_takes_it_apart(workspace):
    assert go(whole_and_parts(["a", "b"]), workspace).output() == ["a2", "b2"]


@pytest.mark.parametrize("what", ["table", "array", "number", "text"])
def test_what_has_no_items_cannot_be_mapped_over(workspace, what):
    with pytest.raises(RunFailed) as caught:
        go(over_any(what), workspace)
    assert "step 'double' is mapped over 'x', which is" in str(caught.value)
    assert "give it a list, a tuple or a dict" in str(caught.value)


def test_what_is_mapped_may_return_calls_and_maps(workspace):
    assert go(mapped_growth(4), workspace).output() == ([0, 0, 3, 9], [3, 4])


def test_maps_of_maps(workspace):
    assert go(mapped_of_mapped(3), workspace).output() == [0, 8, 16]


@pytest.mark.parametrize("call", [lambda at: limited(at, 2, 2), limited_run, limited_growth])
def test_no_more_run_at_once_than_max_parallel(tmp_path, call):
    (tmp_path / "at work").mkdir()
    (tmp_path / "pipes.toml").write_text("[targets.local]\nworkers = 4\n", encoding="utf-8")
    with Workspace.open(tmp_path) as workspace:
        seen = go(call(str(tmp_path / "at work")), workspace, "local").output()
    assert max(seen) == 2


def test_without_a_limit_more_run_at_once(tmp_path):
    (tmp_path / "at work").mkdir()
    (tmp_path / "pipes.toml").write_text("[targets.local]\nworkers = 4\ncpus = 4\n", encoding="utf-8")
    with Workspace.open(tmp_path) as workspace:
        assert max(go(limited(str(tmp_path / "at work"), 4, 3), workspace, "local").output()) > 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wide_map_is_one_run_and_reused_whole(workspace):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = go(wide(WIDE), workspace)
    assert done.output() == 2 * sum(range(WIDE))
    assert len(done.steps) == WIDE + 3
    again = go(wide(WIDE), workspace)
    assert len(ran(again)) == 0
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 40 * WIDE + 100_000
