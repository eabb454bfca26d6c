"""The user's file and what it declares: ``FILE[:PIPELINE]`` becomes something that can be called."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.cli.failures import FileFailedError
from mlflow_pipes.errors import ConfigurationError, DeclarationError, NotFoundError, PipesError, suggest
from mlflow_pipes.fingerprint.project import is_stdlib, natural_module, top_level

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from mlflow_pipes.authoring.pipeline import Pipeline
    from mlflow_pipes.authoring.step import Step


@dataclass(frozen=True)
class Program:
    """A pipeline (or a single step) out of a user's file.

    Attributes:
        text: how the user named it.
        declared: the pipeline or step.
    """

    text: str
    file: Path
    declared: Pipeline[..., Any] | Step[..., Any]

    @property
    def name(self) -> str:
        """The pipeline's or step's name."""
        return self.declared.name

    @property
    def function(self) -> Callable[..., Any]:
        """The plain function, for its signature and docstring."""
        return self.declared.function

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Declare the call: runs the pipeline function, nothing else.

        Raises:
            DeclarationError: what is declared is wrong.
            FileFailedError: the pipeline function raised something else.
        """
        with _told_as_users(f"{self.name!r} in {self.file} failed while it was declared"):
            return self.declared(**arguments)


def load(text: str) -> Program:
    """Return what ``FILE`` or ``FILE:NAME`` names.

    Raises:
        NotFoundError: there is no such file, or nothing of that name in it.
        DeclarationError: the file declares nothing, or several pipelines of which none is named.
        FileFailedError: the file raised while it was imported.
    """
    file, wanted = _split(text)
    module = import_file(file)
    return Program(text, file, _choose(module, file, wanted))


def _split(text: str) -> tuple[Path, str]:
    file = Path(text)
    if file.is_file():
        return file, ""
    before, colon, wanted = text.rpartition(":")
    if colon and before:
        file = Path(before)
    else:
        wanted = ""
    if file.is_dir():
        raise NotFoundError(f"{file} is a folder; name the Python file in it that declares the pipeline")
    if not file.is_file():
        folder = file.parent
        stems = [path.stem for path in folder.glob("*.py")] if folder.is_dir() else []  # their ending makes none near
        near = suggest(file.stem, stems).replace("'?", ".py'?")
        raise NotFoundError(f"no file {str(file)!r}{near}")
    return file, wanted


def import_file(file: Path) -> ModuleType:
    """Import a file under its natural module name, so that workers and other runs import it by the same name.

    Raises:
        ConfigurationError: the name belongs to another module.
        FileFailedError: the file raised.
    """
    if file.suffix != ".py":
        raise ConfigurationError(f"{file} is not a Python file (.py)")
    name, root = natural_module(file)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(
            f"{file} cannot be imported, because {name!r} is no module name: use letters, digits and _ in file names"
        )
    from mlflow_pipes.worker.context import importing

    importlib.invalidate_caches()
    _check_name_is_free(name, file)  # before the file's folder is on the path: there it hides whatever has its name
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    with _told_as_users(f"{file} failed while it was imported"), importing(name):
        return importlib.import_module(name)


def _check_name_is_free(name: str, file: Path) -> None:
    known = sys.modules.get(name)
    origin = getattr(known, "__file__", None)
    if known is None and not is_stdlib(name):
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(name) if "." not in name else None
            origin = spec.origin if spec is not None else None
    if (known is not None or origin is not None or is_stdlib(name)) and not _same(origin, file):
        where = f"{origin}" if origin else f"the module {top_level(name)!r} of Python"
        raise ConfigurationError(f"{file} would be imported as {name!r}, but that is {where}; rename the file")


def _same(origin: str | None, file: Path) -> bool:
    return origin is not None and os.path.realpath(origin) == os.path.realpath(file)


def _choose(module: ModuleType, file: Path, wanted: str) -> Any:
    from mlflow_pipes.authoring.pipeline import Pipeline
    from mlflow_pipes.authoring.step import Step

    pipelines = _declared_in(module, Pipeline)
    steps = _declared_in(module, Step)
    if wanted:
        named = {**steps, **{one.name: one for one in steps.values()}, **pipelines,
                 **{one.name: one for one in pipelines.values()}}  # fmt: skip
        imported = {name: value for name, value in vars(module).items() if isinstance(value, (Pipeline, Step))}
        if wanted in named or wanted in imported:
            return named.get(wanted) or imported[wanted]
        known = ", ".join(pipelines) or ", ".join(steps) or "nothing"
        raise NotFoundError(f"no pipeline {wanted!r} in {file}{suggest(wanted, named)} (it declares: {known})")
    candidates = pipelines or steps
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not candidates:
        raise DeclarationError(f"{file} declares no pipeline: write a function with @pipeline that calls steps")
    kind = "pipelines" if pipelines else "steps and no pipeline"
    example = next(iter(candidates))
    raise DeclarationError(
        f"{file} declares {len(candidates)} {kind} ({', '.join(candidates)}); name one: {file}:{example}"
    )


def _declared_in(module: ModuleType, kind: type) -> dict[str, Any]:
    """Return what the module itself declares, by the name it has there; each once."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name, value in vars(module).items():
        if isinstance(value, kind) and value.__module__ == module.__name__ and id(value) not in seen:
            seen.add(id(value))
            found[name] = value
    return found


@contextlib.contextmanager
def _told_as_users(what: str) -> Any:
    """Whatever the user's own code raises is told with their frames, never with ours."""
    try:
        yield
    except PipesError:
        raise
    except SystemExit as error:
        raise FileFailedError(
            f'{what}: it called sys.exit({error.code!r}); put that under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:
        raise FileFailedError(f"{what}: {type(error).__name__}: {error}") from error
