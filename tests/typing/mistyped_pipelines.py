"""Read by type checkers, never run: each line that ends in a mark must be an error of that kind, and no other."""

from pathlib import Path

from mlflow_pipes.authoring import pipeline, step


@step
def load(folder: Path) -> list[float]:
    raise NotImplementedError


@step(cpus=2)
def train(table: list[float], max_depth: int) -> float:
    raise NotImplementedError


@pipeline
def delays(folder: Path) -> float:
    return train(load(folder), max_depth=3)


def wrong() -> None:
    load("data")  # E: arg-type
    load()  # E: call-arg
    load(Path(), rows=3)  # E: call-arg
    train(load, max_depth=3)  # E: arg-type
    train(load(Path()), max_depth="8")  # E: arg-type
    train(train(load(Path()), 3), 3)  # E: arg-type
    train.options(cpus=4)(load(Path()), depth=3)  # E: call-arg
    train.after(load(Path()))(max_depth=3)  # E: call-arg
    _ = load(Path()).train  # E: attr-defined
    load.options(cpu=3)  # E: call-arg
    load.options(cpus="many")  # E: arg-type
    load.options(reuse="always")  # E: arg-type
    step(cpu=3)  # E: call-overload
    step(retries="many")  # E: call-overload
    delays("data")  # E: arg-type
    delays.options(failfast=True)  # E: call-arg
    pipeline(timeout=3)  # E: call-overload
    train(train.map([[1.0]], max_depth=3)[0], max_depth=3)  # E: arg-type
    train.options(max_parallel="many")  # E: arg-type
    pipeline(on_failure="alarm")  # E: arg-type
    text: str = delays(Path())  # E: assignment
    print(text)
