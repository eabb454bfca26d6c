"""Read by type checkers, never run: what they must see in a well-typed pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, assert_type

from mlflow_pipes import RunOutcome, allow_failure, each
from mlflow_pipes.authoring import Pipeline, Step, graph_of, pipeline, step
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.model.step import RetryPolicy


class Table:
    rows: int


class Model:
    score: float


class Split(NamedTuple):
    train: Table
    test: Table


@step
def load(folder: Path) -> Table:
    raise NotImplementedError


@step(cpus=2, memory="2GB", retries=RetryPolicy(count=2), reuse="content", tags={"a": "b"})
def split(table: Table, share: float = 0.2) -> Split:
    raise NotImplementedError


@step(retries=2, retry_on=(TimeoutError, OSError), timeout_s=1800)
def train(table: Table, *, max_depth: int, **further: float) -> Model:
    raise NotImplementedError


@step
def choose(models: list[Model], test: Table) -> Model:
    raise NotImplementedError


@step
def alarm(outcome: RunOutcome) -> None: ...


@step
def report(model: Model) -> None: ...


@pipeline
def flight_delays(folder: Path, depths: tuple[int, ...] = (4, 8)) -> Model:
    parts = split(load(folder))
    assert_type(parts, Split)
    assert_type(parts.train, Table)
    train_part, test_part = split(load(folder), share=0.5)
    assert_type(test_part, Table)
    models = [train(train_part, max_depth=depth, rate=0.1) for depth in depths]
    assert_type(models, list[Model])
    return choose(models, parts.test)


@pipeline(fail_fast=False, experiment="nightly", timeout_s=60.0)
def nightly(folders: Mapping[str, Path]) -> dict[str, Model]:
    found = {name: flight_delays(folder) for name, folder in folders.items()}
    assert_type(found, dict[str, Model])
    assert_type(report.after(*found.values())(found["a"]), None)
    assert_type(flight_delays.after(found["a"])(Path()), Model)
    return found


@step
def search(table: Table, *, max_depth: int) -> Model:
    return train(table, max_depth=max_depth) if max_depth < 8 else search(table, max_depth=max_depth // 2)


@pipeline(max_parallel=4, on_failure=alarm, always=[alarm])
def mapped(folders: list[Path]) -> Model:
    tables = load.map(folders)
    assert_type(tables, list[Table])
    models = train.options(max_parallel=2).map(tables, max_depth=8)
    assert_type(models, list[Model])
    assert_type(models[0], Model)
    assert_type(train.map_product(tables, max_depth=each([4, 8])), list[Model])
    assert_type(search(tables[0], max_depth=8), Model)
    report(choose(allow_failure(models), tables[0]))
    return choose(models, tables[0])


def checks() -> None:
    assert_type(load(Path()), Table)
    assert_type(load.function(Path()), Table)
    assert_type(load.name, str)
    assert_type(split(load(Path())).test, Table)
    assert_type(train.options(target="dask", retries=3, cpus=0.5, name="the one")(load(Path()), max_depth=3), Model)
    assert_type(train.after(load(Path())).options(priority=3)(load(Path()), max_depth=3), Model)
    assert_type(flight_delays(Path()), Model)
    assert_type(flight_delays.options(fail_fast=False, tags={"a": "b"})(Path()), Model)
    assert_type(graph_of(flight_delays(Path())), Graph)

    one: Step[[Path], Table] = load
    other: Pipeline[[Mapping[str, Path]], dict[str, Model]] = nightly
    print(one, other)
