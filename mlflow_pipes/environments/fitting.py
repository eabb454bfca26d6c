"""Whether a step can run in an environment, as far as that can be told before it is tried."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

from mlflow_pipes.environments.interpreters import this_minor
from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.fingerprint.distributions import distribution_of
from mlflow_pipes.model.environment import ResolvedEnvironment
from mlflow_pipes.model.step import ImportedFunction, PickledFunction, StepDefinition

_OURS = frozenset({"mlflow-pipes"})


def check_fits(step: StepDefinition, environment: ResolvedEnvironment, node: str) -> None:
    """Refuse an environment that lacks what a step's code reaches or its file imports, or cannot read its function.

    Packages are looked for under the names that they are installed by here, and names that begin alike.

    Raises:
        ConfigurationError: naming what is missing, and how to get it.
    """
    where = f"step {node!r} runs in environment {environment.name!r}"
    if isinstance(step.function, PickledFunction) and environment.python != this_minor():
        raise ConfigurationError(
            f"{where}, which is Python {environment.python}, but its function travels by value from Python "
            f"{this_minor()}, whose code no other can run; define it in a file, or give the environment this Python"
        )
    if not environment.packages:
        return
    absent = [f"its code reaches {name}" for name in sorted(step.code.distributions) if _lacks(environment, name)]
    if isinstance(step.function, ImportedFunction):
        file = Path(step.function.file)
        absent += [
            f"{file.name} imports {module} (line {line})"
            for module, line, name in _imported(step.function.file, file.stat().st_mtime_ns)
            if _lacks(environment, name) and name not in step.code.distributions
        ]
    if absent:
        raise ConfigurationError(f"{where}, which has not what it needs: {'; '.join(absent)}. {_remedy(environment)}")


def _remedy(environment: ResolvedEnvironment) -> str:
    match environment.kind:
        case "interpreter":
            return f"Install it there: {environment.recipe} -m pip install ...; or import it in the steps that use it"
        case "container":
            return "Use an image that has it, or import it in the steps that use it"
        case _:
            return "Add it to the environment's packages, or import it in the steps that use it"


def _lacks(environment: ResolvedEnvironment, distribution: str) -> bool:
    if distribution in _OURS or environment.version_of(distribution) is not None:
        return False
    first = distribution.partition("-")[0]  # tensorflow-cpu, opencv-python-headless, psycopg2-binary
    return not any(name.partition("-")[0] == first for name in environment.packages)


@lru_cache(maxsize=256)
def _imported(file: str, mtime_ns: int) -> list[tuple[str, int, str]]:  # noqa: ARG001 - part of the memo
    """Return (module, line, distribution) of what a file imports whenever it is imported, and does not ship itself."""
    found: dict[str, tuple[str, int, str]] = {}
    for module, line in _certain_imports(ast.parse(Path(file).read_bytes()).body):
        spec = PathFinder.find_spec(module)
        distribution = distribution_of(spec.origin) if spec is not None and spec.origin else None
        if distribution is not None:
            found.setdefault(module, (module, line, distribution.name))
    return list(found.values())


def _certain_imports(body: Iterable[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Yield top-level modules and lines of imports that no ``try``, ``if`` or function stands around."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from ((alias.name.partition(".")[0], statement.lineno) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
            yield statement.module.partition(".")[0], statement.lineno
