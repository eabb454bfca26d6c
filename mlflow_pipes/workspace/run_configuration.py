"""Run configurations: one file a situation (``laptop``, ``cluster``, ``nightly``) in which pipelines are run.

::

    # configurations/nightly.toml, beside pipes.toml; .yaml does as well
    target = "local"                # where steps go of which nothing else is said
    experiment = "nightly"
    priority = -1
    fail_fast = false

    environment = "training"        # what steps run with of which nothing else is said

    [[rules]]                       # the first that holds of a step names its target
    step = "train*"                 # pattern of its name, or of its id in the run
    tags = { size = "large" }       # patterns of its tags
    gpus = 1                        # it asks for so many at least; also cpus, memory
    target = "cluster"

    [targets.cluster]               # as in pipes.toml, and before what stands there
    type = "local"
    workers = 8

    [environments.training]         # likewise
    requirements = ["numpy==2.0.1"]

    [environ]
    OMP_NUM_THREADS = "1"

    [tags]
    situation = "nightly"

    [parameters.flight_delays]      # arguments of the pipeline of that name; what the call says comes first
    depths = [4, 8]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Self

from mlflow_pipes.errors import ConfigurationError, NotFoundError, suggest
from mlflow_pipes.model.environment import Environment
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.routing import Rule
from mlflow_pipes.workspace.checked_tables import (
    Table,
    above_zero,
    flag,
    listed,
    size,
    text,
    texts,
    toml_file,
    whole,
    wrong,
    yaml_file,
)
from mlflow_pipes.workspace.configuration import find_project
from mlflow_pipes.workspace.declared_environments import read_environments
from mlflow_pipes.workspace.target_configuration import TargetConfiguration, read_target

FOLDER = "configurations"
SUFFIXES = (".toml", ".yaml", ".yml")
KEYS = ("description", "target", "rules", "targets", "environment", "environments", "environ", "tags", "experiment",
        "priority", "fail_fast", "parameters")  # fmt: skip
RULE_KEYS = ("target", "step", "tags", "cpus", "memory", "gpus")


@dataclass(frozen=True, slots=True)
class RunConfiguration:
    """What holds for runs in one situation, over what the project's configuration says.

    Attributes:
        name: of the situation: the file's name without its ending.
        description: what it is for, one line.
        target: where steps go of which nothing else is said.
        rules: send steps to targets; the first that holds of a step counts.
        targets: defined by it, or defined otherwise than in ``pipes.toml``.
        environment: what steps run with of which nothing else is said: a name; None for the current interpreter.
        environments: defined by it, or defined otherwise than in ``pipes.toml``.
        environ: environment variables for worker processes.
        tags: labels for its runs.
        experiment, priority, fail_fast: as of ``run``; None for what the pipeline says.
        parameters: arguments by name, of each pipeline by its name.
        source: path of its file; empty when it was made in Python.
    """

    name: str
    description: str = ""
    target: str | None = None
    rules: tuple[Rule, ...] = ()
    targets: Mapping[str, TargetConfiguration] = field(default_factory=dict)
    environment: str | None = None
    environments: Mapping[str, Environment] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str | None = None
    priority: int | None = None
    fail_fast: bool | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def load(cls, name: str | Path, folder: str | Path | None = None) -> Self:
        """Return the run configuration of that name.

        Args:
            name: of a file in ``configurations/`` of the project, without its ending; or a path to a file.
            folder: the project's; by default the one that the working folder is in.

        Raises:
            NotFoundError: there is none of that name.
            ConfigurationError: it is wrong; names the file, the key and, for a slip of the pen, the near name.
        """
        project = find_project(Path.cwd()) if folder is None else Path(folder)
        file = _found(str(name), project)
        values = toml_file(file) if file.suffix == ".toml" else yaml_file(file)
        return cls.of(values, name=file.stem, source=str(file))

    @classmethod
    def of(cls, values: Mapping[str, Any], *, name: str, source: str = "") -> Self:
        """Return the run configuration that a table means, as it would stand in a file.

        Raises:
            ConfigurationError: as of :meth:`load`.
        """
        table = Table(values, source or f"run configuration {name!r}")
        table.check_keys(KEYS)
        targets, parameters = table.table("targets"), table.table("parameters")
        return cls(
            name=name,
            description=table.read("description", text) or "",
            target=table.read("target", text),
            rules=tuple(table.read("rules", _rules) or ()),
            targets={target: read_target(target, targets.table(target)) for target in targets.values},
            environment=table.read("environment", text),
            environments=read_environments(table.table("environments")) if "environments" in table.values else {},
            environ=table.read("environ", texts) or {},
            tags=table.read("tags", texts) or {},
            experiment=table.read("experiment", text),
            priority=table.read("priority", whole()),
            fail_fast=table.read("fail_fast", flag),
            parameters={pipeline: parameters.table(pipeline).values for pipeline in parameters.values},
            source=source,
        )

    @property
    def where(self) -> str:
        """The file, or the name, for errors."""
        return self.source or f"run configuration {self.name!r}"

    def check_targets(self, known: Mapping[str, TargetConfiguration]) -> None:
        """Raise ``ConfigurationError`` when it names a target that is none of *known*."""
        named = [("target", self.target)] + [(rule.source.partition(": ")[2], rule.target) for rule in self.rules]
        for place, target in named:
            if target is not None and target not in known:
                raise ConfigurationError(
                    f"{self.where}: {place}: there is no target {target!r}{suggest(target, known)} "
                    f"(known: {listed(known)})"
                )


def names(project: Path) -> list[str]:
    """Return the names of a project's run configurations."""
    folder = project / FOLDER
    return sorted({file.stem for file in folder.iterdir() if file.suffix in SUFFIXES}) if folder.is_dir() else []


def _found(name: str, project: Path) -> Path:
    path = Path(name).expanduser()
    if path.suffix in SUFFIXES or path.name != name:
        if not path.is_file():
            raise NotFoundError(f"no run configuration at {name}")
        if path.suffix not in SUFFIXES:
            raise ConfigurationError(
                f"{name}: a run configuration ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
            )
        return path.resolve()
    folder = project / FOLDER
    found = [file for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise ConfigurationError(f"run configuration {name!r} is there twice, as {found[0]} and {found[1]}: remove one")
    if not found:
        known = names(project)
        there = f"there are: {', '.join(known)}" if known else f"there are none: write {folder / name}.toml"
        raise NotFoundError(f"no run configuration {name!r}{suggest(name, known)} ({there})")
    return found[0]


def _rules(value: Any, what: str) -> list[Rule]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise wrong(what, "a list of tables: [[rules]]", value)
    file, _, key = what.rpartition(": ")
    return [_rule(Table(one, file, f"{key}[{number}]")) for number, one in enumerate(value, 1)]


def _rule(table: Table) -> Rule:
    """Return what one of ``[[rules]]`` means; it is called by its number from 1."""
    table.check_keys(RULE_KEYS)
    target = table.read("target", text)
    if target is None:
        raise ConfigurationError(f"{table.where}: {table.place} must say a target")
    return Rule(
        target=target,
        step=table.read("step", text) or "*",
        tags=table.read("tags", texts) or {},
        cpus=table.read("cpus", above_zero) or 0.0,
        memory_bytes=table.read("memory", size) or 0,
        gpus=table.read("gpus", whole(0)) or 0,
        source=f"{table.where}: {table.place}",
    )
