"""Steps that run in environments; nothing is imported here that those lack."""

from __future__ import annotations

from mlflow_pipes import pipeline, step


@step(environment="small")
def versions(x: int) -> dict[str, str]:
    import os
    import sys

    import toolz

    print(f"toolz {toolz.__version__}")
    return {"toolz": toolz.__version__, "prefix": sys.prefix, "colour": os.environ.get("COLOUR", "")}


@step
def here(x: int) -> str:
    import sys

    return sys.prefix


@step(environment="small")
def grows(x: int) -> list[dict[str, str] | str]:
    return [versions(x), here(x), here.options(environment="default", name="outside")(x)]  # type: ignore[list-item]


@step(environment="small")
def reaches(x: int) -> int:
    import rich

    return len(rich.__name__) + x


@pipeline
def several(count: int = 3):
    old = [versions.options(environment="old")(number) for number in range(count)]
    return [*old, *(versions(number) for number in range(count)), *(here(number) for number in range(count))]
