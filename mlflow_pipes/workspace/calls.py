"""A pipeline's call, kept with its run so that another process can declare it again, and declared again."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import DeclarationError, NotFoundError, suggest
from mlflow_pipes.model.resumption import StoredCall
from mlflow_pipes.workspace.user_files import import_file, same_file, told_as_users

if TYPE_CHECKING:
    from mlflow_pipes.authoring.pipeline import Pipeline
    from mlflow_pipes.authoring.reference import OutputRef
    from mlflow_pipes.authoring.step import Step

LARGEST_BYTES = 1_000_000
"""Larger arguments belong into files; the ledger is no datastore."""

_SCALARS = frozenset({
    type(None), bool, int, float, complex, str, bytes, dt.date, dt.datetime, dt.time, dt.timedelta,
})  # fmt: skip
_HOOKS = ("on_success", "on_failure", "always")


class _NotStorableError(Exception):
    """Why a call cannot be kept; ends as the ``problem`` of a :class:`StoredCall`."""


def stored_call(call: Any, given: Mapping[str, Any]) -> StoredCall:
    """Return how a call can be declared again, or why it cannot. Never raises for what the call is.

    Args:
        call: of a pipeline or a step, with a graph.
        given: its other arguments that a run that resumes this one takes over.
    """
    from mlflow_pipes.authoring.pipeline import PipelineCall

    declared: Pipeline[..., Any] | Step[..., Any]
    arguments: Mapping[str, Any]
    try:
        if isinstance(call, PipelineCall):
            declared, arguments = call.pipeline, call.arguments
        else:
            declared, arguments = _step_call(call)
        file, name, original = _original(declared)
        options = _changes(declared, original)
        return StoredCall(file, name, str(Path.cwd()), options, dict(given), _pickled(arguments))
    except _NotStorableError as error:
        return StoredCall(problem=str(error))


def declared_again(stored: StoredCall) -> Any:
    """Return the call, declared anew from the file as it is now.

    Raises:
        NotFoundError: the file, or the pipeline in it, is gone.
        DeclarationError: the file or the pipeline function fails, or the arguments cannot be read any more.
    """
    file = Path(stored.file)
    if not file.is_file():
        raise NotFoundError(f"{file}, which declared {stored.name!r}, is not there any more")
    module = _loaded(file)
    found = _attribute(module, stored.name)
    if found is None:
        raise NotFoundError(f"{file} no longer declares {stored.name!r}{suggest(stored.name, vars(module))}")
    arguments = _unpickled(stored, file)
    if stored.options:
        found = found.options(**stored.options)
    with told_as_users(f"{stored.name!r} in {file} failed while it was declared"):
        return found(**arguments)


# Finding what was called


def _original(declared: Pipeline[..., Any] | Step[..., Any]) -> tuple[str, str, Any]:
    """Return the file that declares a pipeline or step, its name there, and what has that name."""
    from mlflow_pipes.hints import plain_function

    function = plain_function(declared.function)
    module = sys.modules.get(str(getattr(function, "__module__", "")))
    file, code = getattr(module, "__file__", None), getattr(function, "__code__", None)
    if module is None or code is None or file is None or not same_file(file, Path(code.co_filename)):
        raise _NotStorableError(f"{declared.name!r} was not declared in a file, but in a notebook, a session or a call")
    for name in (str(getattr(declared.function, "__qualname__", "")), *vars(module)):
        found = _attribute(module, name)
        if type(found) is type(declared) and found.function is declared.function:
            return os.path.realpath(file), name, found
    raise _NotStorableError(f"{declared.name!r} has no name at the top of {file} to be found by")


def _attribute(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _loaded(file: Path) -> ModuleType:
    """Return the module of a file, under whatever name it is there already (``__main__``, for one); else imported."""
    for module in list(sys.modules.values()):
        known = getattr(module, "__file__", None)
        if isinstance(known, str) and known.endswith(file.name) and same_file(known, file):
            return module
    return import_file(file)


def _changes(declared: Pipeline[..., Any] | Step[..., Any], original: Any) -> dict[str, Any]:
    """Return what a call changed of the options that its pipeline was declared with."""
    changed = {
        field.name: getattr(declared.settings, field.name)
        for field in dataclasses.fields(declared.settings)
        if getattr(declared.settings, field.name) != getattr(original.settings, field.name)
    }
    if not changed.keys().isdisjoint(_HOOKS):
        raise _NotStorableError(f"{declared.name!r} was called with other exit hooks than it was declared with")
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in changed.items()}


def _step_call(ref: OutputRef) -> tuple[Step[..., Any], dict[str, Any]]:
    from mlflow_pipes.authoring.reference import call_of, path_of
    from mlflow_pipes.model.graph import Constant

    call = call_of(ref)
    plain = call.maps is None and not call.after and not path_of(ref) and call.step.settings == call.step.declared
    if not plain or not all(isinstance(bound, Constant) for bound in call.arguments.values()):
        raise _NotStorableError(f"it is a call of step {call.step.name!r} with options, or on outputs of other steps")
    return call.step, {name: bound.value for name, bound in call.arguments.items()}


# Arguments


def _pickled(arguments: Mapping[str, Any]) -> bytes:
    from mlflow_pipes.authoring.step import Step
    from mlflow_pipes.worker.secrets import values

    try:
        if _is_plain(arguments):
            data = pickle.dumps(dict(arguments), protocol=5)
        else:
            from mlflow_pipes.content.codecs.pickled import pickled

            data = pickled(dict(arguments), (Step,))
    except Exception as error:
        raise _NotStorableError(f"an argument cannot be pickled: {error}") from error
    if len(data) > LARGEST_BYTES:
        raise _NotStorableError(f"its arguments are {len(data):,} bytes, more than the {LARGEST_BYTES:,} that are kept")
    if any(secret.encode("utf-8", "surrogatepass") in data for secret in values(os.environ)):
        raise _NotStorableError(
            "an argument holds the value of a secret, which is never kept; let the step ask for it: "
            "current_run().secret(name)"
        )
    return data


def _is_plain(value: Any) -> bool:
    """Tell whether Python's own pickle is enough: it costs nothing to import."""
    cls = type(value)
    if cls in (list, tuple, set, frozenset):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return cls in _SCALARS or isinstance(value, PurePath)


def _unpickled(stored: StoredCall, file: Path) -> dict[str, Any]:
    from mlflow_pipes.content.codecs.pickled import unpickled

    try:
        arguments: dict[str, Any] = unpickled(stored.arguments)
    except Exception as error:
        raise DeclarationError(
            f"the arguments that {stored.name!r} was called with cannot be read any more: {error}. Was a class in "
            f"{file} renamed? Call it again: run({stored.name}(...), resume=...)"
        ) from error
    return arguments
