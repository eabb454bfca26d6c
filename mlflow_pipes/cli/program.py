"""The user's file and what it declares: ``FILE[:PIPELINE]`` becomes something that can be called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import DeclarationError, NotFoundError, suggest
from mlflow_pipes.workspace.user_files import import_file, told_as_users

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
        with told_as_users(f"{self.name!r} in {self.file} failed while it was declared"):
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
    candidates = _outermost(pipelines) or pipelines or steps
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not candidates:
        raise DeclarationError(f"{file} declares no pipeline: write a function with @pipeline that calls steps")
    kind = "pipelines" if pipelines else "steps and no pipeline"
    example = next(iter(candidates))
    raise DeclarationError(
        f"{file} declares {len(candidates)} {kind} ({', '.join(candidates)}); name one: {file}:{example}"
    )


def _outermost(pipelines: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipelines that no other one calls: a file's sub-pipelines are not what it is run for."""
    called: set[str] = set()
    for name, one in pipelines.items():
        waiting = [one.function.__code__] if isinstance(one.function, FunctionType) else []
        while waiting:
            code = waiting.pop()
            called.update(set(code.co_names) - {name})
            waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {name: one for name, one in pipelines.items() if name not in called}


def _declared_in(module: ModuleType, kind: type) -> dict[str, Any]:
    """Return what the module itself declares, by the name it has there; each once."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name, value in vars(module).items():
        if isinstance(value, kind) and value.__module__ == module.__name__ and id(value) not in seen:
            seen.add(id(value))
            found[name] = value
    return found
