"""Interpreters: what they are, and what is installed for them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow_pipes.digests import digest_record
from mlflow_pipes.environments.programs import output_of
from mlflow_pipes.environments.support import MODULES, OLDEST_PYTHON
from mlflow_pipes.errors import ConfigurationError, NotFoundError, WorldError
from mlflow_pipes.fingerprint.distributions import canonical
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.model.environment import Environment, ResolvedEnvironment
from mlflow_pipes.quick_dataclasses import dataclass

# Runs in the other Python, whatever its version.
_QUESTION = """
import importlib.util, json, os, platform, sys
try:
    from importlib.metadata import distributions
    found = [(one.metadata["Name"], one.version) for one in distributions()]
except ImportError:
    found = []
folders = [path for path in sys.path if path and os.path.isdir(path)]
print(json.dumps({
    "version": platform.python_version(),
    "packages": [pair for pair in found[::-1] if pair[0]],  # the first on the path counts, so it comes last
    "missing": [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None],
    "watched": [[path, os.stat(path).st_mtime_ns] for path in [sys.executable] + folders],
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What an interpreter says of itself.

    Attributes:
        version: such as ``3.11.7``.
        packages: installed version of each distribution, by canonical name.
        missing: what it lacks of the modules that every worker imports.
    """

    version: str
    packages: dict[str, str]
    missing: tuple[str, ...]

    @property
    def minor(self) -> str:
        """Its minor version, such as ``3.11``."""
        return ".".join(self.version.split(".")[:2])


def resolve(environment: Environment, project: Path, memos: Path) -> ResolvedEnvironment:
    """Return an environment that is there already: an interpreter and all that is installed for it.

    Raises:
        NotFoundError: there is no such interpreter.
        ConfigurationError: workers cannot run with it; tells what it lacks, and how to install that.
    """
    path = project / Path(environment.interpreter).expanduser()
    path = path / "bin" / "python" if path.is_dir() else path  # a virtual environment's folder
    if not path.is_file() or not os.access(path, os.X_OK):
        raise NotFoundError(f"{environment}: there is no interpreter {path}")
    python = asked([str(path)], memos, what=str(environment), remember=str(path))
    check_usable(python, environment, f"{path} -m pip install")
    packages = tuple(sorted(python.packages.items()))
    return ResolvedEnvironment(
        name=environment.name or environment.made_of,
        kind="interpreter",
        digest=digest_record("pipes.environment/1", ("interpreter", python.minor, packages)),
        python=python.minor,
        packages=python.packages,
        recipe=str(path),
        command=(str(path),),
        environ=environment.environ,
        prefix=str(path.parent.parent) if _is_environment(path) else "",
    )


def check_usable(python: Interpreter, environment: Environment, install: str) -> None:
    """Refuse an interpreter that workers cannot run with; *install* is the command that installs packages there."""
    if tuple(map(int, python.minor.split("."))) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise ConfigurationError(f"{environment}: it is Python {python.version}, but workers need {oldest} or newer")
    if python.missing:
        raise ConfigurationError(
            f"{environment}: it lacks {' and '.join(python.missing)}, which every worker needs; "
            f"run: {install} {' '.join(python.missing)}"
        )


def asked(command: Sequence[str], memos: Path, *, what: str, remember: str) -> Interpreter:
    """Ask an interpreter what it is; remembered for as long as neither it nor its folders of packages change.

    Args:
        command: starts it.
        memos: folder of what is remembered.
        what: for errors.
        remember: what stands for the interpreter in there.

    Costs 0.1 s the first time, then a millisecond.
    """
    memo = memos / f"{digest_record('pipes.interpreter/1', (remember,))[:32]}.json"
    answer = _remembered(memo)
    if answer is None:
        told = output_of([*command, "-I", "-c", _QUESTION, *MODULES], what=f"{what} cannot be asked what it is")
        try:
            answer = json.loads(told)
        except ValueError as error:
            raise WorldError(f"{what}: it is no Python: it answers {told[:80]!r}") from error
        memos.mkdir(parents=True, exist_ok=True)
        write_whole(memo, json.dumps(answer))
    packages = {canonical(name): version for name, version in answer["packages"]}
    return Interpreter(answer["version"], packages, tuple(answer["missing"]))


def _remembered(memo: Path) -> Any:
    try:
        answer = json.loads(memo.read_text(encoding="utf-8"))
        is_same = all(os.stat(path).st_mtime_ns == then for path, then in answer["watched"])  # noqa: PTH116
    except (OSError, ValueError, KeyError):
        return None
    return answer if is_same else None


def _is_environment(interpreter: Path) -> bool:
    prefix = interpreter.parent.parent
    return (prefix / "pyvenv.cfg").exists() or (prefix / "conda-meta").exists()


def this_minor() -> str:
    """Return the minor version of this process's Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
