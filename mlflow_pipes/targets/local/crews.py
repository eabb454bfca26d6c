"""A crew for each environment: workers with one interpreter and its packages, and the zygote that they come from."""

from __future__ import annotations

import os
import selectors
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mlflow_pipes.targets.local import wire
from mlflow_pipes.targets.local.crew import Crew, Listener
from mlflow_pipes.targets.local.zygote_link import ZygoteLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_pipes.model.attempt import Assignment
    from mlflow_pipes.model.environment import ResolvedEnvironment
    from mlflow_pipes.targets.local.worker_link import WorkerLink

Key: TypeAlias = "tuple[str, tuple[tuple[str, str], ...]] | None"
_OF_THIS_PYTHON = frozenset({"PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def key_of(environment: ResolvedEnvironment | None) -> Key:
    """Return what tells crews apart; None for this process's own interpreter."""
    return None if environment is None else (environment.digest, tuple(sorted(environment.environ.items())))


class Crews:
    """The crews of one target. There is always the one of this process's own interpreter.

    Args:
        start_zygote: starts one, for attempts like the given one where they have an environment.
        end_zygote: ends, or keeps for the next crew, one of this process's interpreter.
        listener: is told what happens.
    """

    def __init__(
        self,
        start_zygote: Callable[[Assignment | None], ZygoteLink],
        end_zygote: Callable[[ZygoteLink], None],
        listener: Listener,
    ) -> None:
        self._start_zygote = start_zygote
        self._listener = listener
        self.own = Crew(partial(start_zygote, None), end_zygote, listener)
        self._crews: dict[Key, Crew] = {None: self.own}
        self._selector = selectors.DefaultSelector()  # of the crews' selectors: one descriptor, however many there are
        self._selector.register(self.own.fileno(), selectors.EVENT_READ)

    def links(self) -> list[WorkerLink]:
        """Return all workers."""
        if len(self._crews) == 1:
            return list(self.own.links.values())
        return [link for crew in self._crews.values() for link in crew.links.values()]

    def of(self, link: WorkerLink) -> Crew:
        """Return the crew of a worker."""
        return self._crews[link.environment]

    def crew_for(self, assignment: Assignment) -> Crew:
        """Return the crew that does attempts like this, without workers at first."""
        key = key_of(assignment.environment)
        crew = self._crews.get(key)
        if crew is None:
            crew = Crew(partial(self._start_zygote, assignment), ZygoteLink.end, self._listener, key)
            self._crews[key] = crew
            self._selector.register(crew.fileno(), selectors.EVENT_READ)
        return crew

    def fileno(self) -> int:
        """Return the one descriptor that is readable when anything happened."""
        return self._selector.fileno()

    def poll(self) -> None:
        """Tell what has happened, without waiting."""
        for crew in list(self._crews.values()):
            crew.poll()

    def next_deadline(self) -> float | None:
        """Return when ``poll`` is to be called at the latest."""
        if len(self._crews) == 1:
            return self.own.next_deadline()
        deadlines = [crew.next_deadline() for crew in self._crews.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def close(self) -> None:
        """Wait until all workers, which were killed or told to exit, are gone; then end the zygotes."""
        self._selector.close()
        for crew in self._crews.values():
            crew.close()


def carried(path: Iterable[str]) -> list[str]:
    """Return the entries of ``sys.path`` that another interpreter is to have, too: the user's, nothing installed."""
    import sysconfig

    library = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return [
        entry
        for entry in path
        if _INSTALLED.isdisjoint(Path(entry).parts)
        and not any(entry == folder or entry.startswith(f"{folder}/") for folder in library)
        and not (entry.endswith(".zip") and entry.startswith((sys.prefix, sys.base_prefix)))
    ]


def elsewhere(
    like: Assignment, setup: wire.Setup, environ: Mapping[str, str], folder: Path
) -> tuple[ZygoteLink, wire.Setup]:
    """Start a zygote of the interpreter of an attempt's environment; return it with its setup.

    Args:
        like: the attempt.
        setup: as for this process's own interpreter.
        environ: likewise.
        folder: for the links to our own package; the target's.
    """
    from mlflow_pipes.worker.own_package import own_package  # with what it imports 20 ms that others need not pay

    environment = like.environment
    assert environment is not None
    package = own_package(folder / "environments")
    path = carried(setup.sys_path)
    variables = {name: value for name, value in environ.items() if name not in _OF_THIS_PYTHON}
    if environment.prefix:  # what a step starts by name is looked for there first
        variables["VIRTUAL_ENV"] = environment.prefix
        variables["PATH"] = f"{environment.prefix}/bin{os.pathsep}{variables.get('PATH', os.defpath)}"
    variables |= environment.environ
    if environment.kind == "container":
        root = getattr(like.function, "root", "")
        seen = [str(folder), setup.checkout, setup.scratch, setup.cwd, root, *filter(os.path.isdir, path)]
        links = [str(package), *(str(link.resolve()) for link in package.iterdir())]
        variables["PIPES_FOLDERS"] = os.pathsep.join([*seen, *links])
    # What else there is was looked at when the environment was resolved, and cannot have changed by much since.
    packages = environment.packages if environment.kind == "requirements" else {}
    zygote = ZygoteLink(variables, environment.command, str(package))
    return zygote, setup._replace(sys_path=path, preload=(), expected=(environment.python, packages))
