"""Conda environments, by ``micromamba``, ``mamba`` or ``conda``, whichever is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow_pipes.digests import digest_record
from mlflow_pipes.environments.programs import first_of, output_of
from mlflow_pipes.environments.shelf import Recipe, interpreter_of
from mlflow_pipes.environments.support import support
from mlflow_pipes.errors import ConfigurationError, NotFoundError, WorldError
from mlflow_pipes.fingerprint.distributions import canonical
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.model.environment import Environment

_PROGRAMS = ("micromamba", "mamba", "conda")
_EXPLICIT = "@EXPLICIT"
# https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html: name-version-build
_PACKAGE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+?)(\.tar\.bz2|\.conda)?(#.*)?")


def locked(environment: Environment, project: Path, memos: Path) -> str:
    """Return the explicit list (``@EXPLICIT`` and one URL a line) that an environment comes to; kept like other locks.

    Raises:
        NotFoundError: the file is not there.
        ConfigurationError: there is none of the programs, or the file asks for what cannot be locked.
        WorldError: it cannot be solved.
    """
    file = project / environment.conda
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(f"{environment}: cannot read {file}: {error.strerror}") from error
    if _EXPLICIT in text:
        return _explicit(line.strip() for line in text.splitlines() if line.strip().startswith(("http", "file:")))
    if re.search(r"^\s*-\s*pip\s*:", text, re.MULTILINE):
        raise ConfigurationError(
            f"{environment}: {file} has a pip: section, which conda does not lock; use an environment of requirements, "
            "or a file that has conda's packages only"
        )
    memo = memos / f"{digest_record('pipes.conda/1', (text,))[:32]}.txt"
    if not memo.exists():
        memos.mkdir(parents=True, exist_ok=True)
        write_whole(memo, _solved(environment, file))
    return memo.read_text(encoding="utf-8")


def program(environment: Environment) -> str:
    """Return the path of the program that solves and builds.

    Raises:
        ConfigurationError: there is none.
    """
    found = first_of(_PROGRAMS)
    if not found:
        raise ConfigurationError(
            f"{environment}: it needs micromamba, mamba or conda on the PATH, and none of them is there; install "
            "micromamba (https://mamba.readthedocs.io/en/latest/installation/micromamba-installation.html)"
        )
    return found


def packages_in(explicit: str) -> dict[str, str]:
    """Return version and build of each package of an explicit list.

    >>> packages_in("https://conda.anaconda.org/conda-forge/linux-64/numpy-2.0.1-py311h71ddf71_0.conda#c0ffee")
    {'numpy': '2.0.1=py311h71ddf71_0'}
    """
    return dict(_named(explicit))


def _named(explicit: str) -> Iterator[tuple[str, str]]:
    for line in explicit.splitlines():
        match = _PACKAGE.fullmatch(line.rpartition("/")[2])
        if match and line.startswith(("http", "file:")):
            yield canonical(match["name"]), f"{match['version']}={match['build']}"


def recipe(environment: Environment, explicit: str) -> Recipe:
    """Return what an explicit list is built from here."""
    tool, packages = program(environment), packages_in(explicit)
    beside = support(packages)
    name = environment.name or environment.made_of
    key = digest_record("pipes.built-environment/1", ("conda", explicit, beside))
    return Recipe(key, name, "conda", explicit, beside, tool=tool, packages=packages)


def build(recipe: Recipe, place: Path) -> None:
    """Build at *place*; what workers need of ours is put in by the environment's own pip.

    Raises:
        WorldError: a package cannot be fetched, or there is no pip in it.
    """
    what = f"environment {recipe.name!r} cannot be built"
    listed = place.with_suffix(".explicit.txt")
    write_whole(listed, recipe.text)
    try:
        output_of([recipe.tool, "create", "--yes", "--quiet", "--prefix", str(place), "--file", str(listed)], what=what)
    finally:
        listed.unlink(missing_ok=True)
    if recipe.support:
        if "pip" not in recipe.packages:
            raise WorldError(f"{what}: add pip to its file, or {' and '.join(recipe.support)}")
        output_of([str(interpreter_of(place)), "-m", "pip", "install", "--quiet", *recipe.support], what=what)


def _solved(environment: Environment, file: Path) -> str:
    tool = program(environment)
    if Path(tool).name == "conda":
        raise ConfigurationError(
            f"{environment}: conda does not tell what it would install from where; install micromamba, or name the "
            "file that this makes: conda list --explicit > explicit.txt"
        )
    prefix = str(file.with_name(f".{file.name}.never-made"))
    command = [tool, "create", "--yes", "--dry-run", "--json", "--prefix", prefix, "--file", str(file)]
    told = output_of(command, what=f"{environment}: it cannot be solved")
    try:
        return solution_in(told)
    except (ValueError, KeyError, TypeError) as error:
        raise WorldError(
            f"{environment}: the answer of {tool} cannot be read ({error!r}); lock it by hand, and name that file: "
            "conda list --explicit > explicit.txt"
        ) from error


def solution_in(told: str) -> str:
    """Return the explicit list of what micromamba, or mamba from version 2, tells as JSON that it would link.

    >>> print(solution_in('{"actions": {"LINK": [{"url": "https://c/noarch/a-1-0.conda"}]}}').strip())
    @EXPLICIT
    https://c/noarch/a-1-0.conda
    """
    answer: Any = json.loads(told[told.index("{") :])
    return _explicit(str(one["url"]) for one in answer["actions"]["LINK"])


def _explicit(urls: Iterator[str]) -> str:
    return "\n".join([_EXPLICIT, *sorted(urls), ""])
