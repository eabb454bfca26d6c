"""Requirements: locked to names and versions, then built into a virtual environment, by ``uv`` or else by ``pip``."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_pipes.digests import digest_record
from mlflow_pipes.environments import programs
from mlflow_pipes.environments.interpreters import this_minor
from mlflow_pipes.environments.programs import output_of
from mlflow_pipes.environments.shelf import Recipe, interpreter_of
from mlflow_pipes.environments.support import support
from mlflow_pipes.errors import ConfigurationError, NotFoundError, WorldError
from mlflow_pipes.fingerprint.distributions import canonical
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.model.environment import Environment
from mlflow_pipes.quick_dataclasses import dataclass

_INCLUDE = re.compile(r"(?:-r|--requirement)[=\s]*(.+)")
_CONSTRAIN = re.compile(r"(?:-c|--constraint)[=\s]*(.+)")
_LOCAL = re.compile(r"(-e|--editable)\b|\.{0,2}/|file:|.*@\s*file:")
_LOCKED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?\s*(?:==\s*(?P<version>[^\s;]+)|@\s*(?P<url>[^\s;]+))")


@dataclass(frozen=True, slots=True)
class Lock:
    """What requirements come to.

    Attributes:
        packages: version of each distribution by canonical name; of one from a URL, that URL.
        options: lines such as ``--extra-index-url ...``, as the requirements have them.
    """

    packages: dict[str, str]
    options: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """A requirements file of exactly these."""
        pinned = [f"{name} @ {one}" if "/" in one else f"{name}=={one}" for name, one in sorted(self.packages.items())]
        return "\n".join([*self.options, *pinned, ""])


def locked(environment: Environment, project: Path, memos: Path) -> Lock:
    """Return what an environment's requirements come to, resolved now or the first time that they were asked for.

    A lock is kept for as long as the requirements stand as they are: newer versions are not taken by themselves.

    Raises:
        NotFoundError: the requirements file is not there.
        ConfigurationError: they name local packages.
        WorldError: they cannot be resolved, or the package index cannot be reached.
    """
    lines = list(_lines_of(environment, project))
    _refuse_local(lines, environment)
    python = environment.python or this_minor()
    memo = memos / f"{digest_record('pipes.requirements/1', (python, tuple(lines)))[:32]}.json"
    if memo.exists():
        return Lock(json.loads(memo.read_text(encoding="utf-8")), _options(lines))
    packages = resolved("\n".join(lines) + "\n", environment, project, programs.uv())
    memos.mkdir(parents=True, exist_ok=True)
    write_whole(memo, json.dumps(packages))
    return Lock(packages, _options(lines))


def recipe(environment: Environment, lock: Lock, interpreter: str, version: str) -> Recipe:
    """Return what a lock is built from here; *version* is the whole one of *interpreter*."""
    beside = support(lock.packages)
    tool = programs.uv()
    # Virtual environments are bound to the interpreter that they were made with.
    parts = ("requirements", lock.text, beside, interpreter, version)
    name = environment.name or environment.made_of
    key = digest_record("pipes.built-environment/1", parts)
    return Recipe(key, name, "requirements", lock.text, beside, interpreter, tool, lock.packages)


def build(recipe: Recipe, place: Path) -> None:
    """Build a virtual environment at *place*.

    Raises:
        WorldError: a package cannot be fetched or built; the last words of the program that tried.
    """
    what = f"environment {recipe.name!r} cannot be built"
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join([recipe.text, *recipe.support, ""]))
        file.flush()
        python = str(interpreter_of(place))
        if recipe.tool:
            output_of([recipe.tool, "venv", "--quiet", "--python", recipe.python, str(place)], what=what)
            output_of(
                [recipe.tool, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "-r", file.name],
                what=what,
            )
            return
        output_of([recipe.python, "-m", "venv", "--without-pip", str(place)], what=what)
        with _pip(recipe.python, what) as pip:
            output_of([*pip, "--python", python, "install", "--quiet", "-r", file.name], what=what)


def interpreter_for(environment: Environment) -> str:
    """Return the Python to build with.

    Raises:
        WorldError: there is none of the version asked for.
    """
    if not environment.python or environment.python == this_minor():
        return sys.executable
    tool = programs.uv()
    if tool:
        what = f"{environment}: there is no Python {environment.python}"
        return output_of([tool, "python", "find", environment.python], what=what).strip()
    found = programs.first_of([f"python{environment.python}"])
    if not found:
        raise NotFoundError(f"{environment}: there is no python{environment.python} on the PATH; install it, or uv")
    return found


def resolved(text: str, environment: Environment, project: Path, tool: str) -> dict[str, str]:
    """Return what the text of a requirements file comes to, by ``uv`` at *tool*; where that is empty, by pip.

    Raises:
        WorldError: it cannot be resolved, or the package index cannot be reached.
    """
    what = f"{environment}: its requirements cannot be resolved"
    python = interpreter_for(environment)
    if tool:
        command = [tool, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", python, "-"]
        return dict(_pinned(output_of(command, what=what, given=text, cwd=project).splitlines()))
    with tempfile.TemporaryDirectory() as folder, _pip(python, what) as pip:
        file, report = Path(folder, "requirements.txt"), Path(folder, "report.json")
        file.write_text(text, encoding="utf-8")
        ask = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report), "-r", str(file)]
        output_of([*pip, "install", *ask], what=what, cwd=project)
        return dict(_reported(report))


@contextmanager
def _pip(python: str, what: str) -> Iterator[list[str]]:
    """Give the command of an interpreter's pip; one that has none gets it for a while, in an environment of its own."""
    command = [python, "-m", "pip"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            output_of([*command, "--version"], what=what)
        except WorldError:
            output_of([python, "-m", "venv", folder], what=what)
            command = [str(interpreter_of(Path(folder))), "-m", "pip"]
        yield command


def _pinned(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        match = _LOCKED.match(line)
        if match:
            yield canonical(match["name"]), match["version"] or match["url"]


def _reported(file: Path) -> Iterator[tuple[str, str]]:
    """Yield what pip would install (pip.pypa.io, "Installation Report", version 1)."""
    for one in json.loads(file.read_text(encoding="utf-8"))["install"]:
        fetched = one["download_info"]
        commit = fetched.get("vcs_info", {}).get("commit_id", "")
        direct = f"{fetched['url']}@{commit}" if commit else fetched["url"]
        yield canonical(one["metadata"]["name"]), direct if one.get("is_direct") else one["metadata"]["version"]


def _lines_of(environment: Environment, project: Path) -> Iterator[str]:
    if isinstance(environment.requirements, str):
        yield from _lines_in(project / environment.requirements, environment, ())
    else:
        yield from environment.requirements


def _lines_in(file: Path, environment: Environment, around: tuple[Path, ...]) -> Iterator[str]:
    """Yield the lines of a requirements file and of those that it includes; comments are left out."""
    if file in around:
        return
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(f"{environment}: cannot read {file}: {error.strerror}") from error
    for line in text.replace("\\\n", " ").splitlines():
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        included = _INCLUDE.fullmatch(plain)
        constraint = _CONSTRAIN.fullmatch(plain)
        if included:
            yield from _lines_in(file.parent / included[1].strip(), environment, (*around, file))
        elif constraint:
            limits = (file.parent / constraint[1].strip()).absolute()
            yield f"-c {limits}"
            yield from (f"# {line}" for line in _lines_in(limits, environment, (*around, file)))
        elif plain:
            yield re.sub(r"\s+--hash=\S+", "", plain).strip()


def _options(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(line for line in lines if line.startswith("-") and not _CONSTRAIN.fullmatch(line))


def _refuse_local(lines: Iterable[str], environment: Environment) -> None:
    for line in lines:
        if _LOCAL.match(line):
            raise ConfigurationError(
                f"{environment}: {line!r} is a local package, whose content no lock tells: code of the project needs "
                "no installing, a step's worker imports it from where it is; give others a version, or a URL"
            )
