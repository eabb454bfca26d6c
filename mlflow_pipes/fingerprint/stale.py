"""Whether what is in memory is what its file says: a process may have imported a module before the file was edited.

Functions are compared by their compiled code (``Source.find``). Here are constants: a name bound once, to a value that
is written out, must have that value; a computed one is trusted while its module's code is what it was when this
process first looked. What differs would be keyed by one value and computed, in a fresh worker, with another.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow_pipes.fingerprint.scopes import LiveScope
from mlflow_pipes.fingerprint.source import Source, literal_of

_SCALARS = (int, float, complex, str, bytes, bool, tuple, frozenset, type(None))
_MISSING = object()

# (file, id of the module's spec) -> the spec, kept alive; the source when the module was first looked at
_first_seen: dict[tuple[str, int], tuple[object, Source]] = {}


def stale_constant(scope: LiveScope, source: Source, name: str) -> str | None:
    """Return what is wrong with a module-level name whose value is not what its file says; None when all is well."""
    if not source.on_disk:
        return None
    seen = _as_first_seen(scope.variables, source)
    literal = source.literal(name)
    if literal is not None:
        live = scope.variables.get(name, _MISSING)
        if type(live) in _SCALARS and not _same(live, literal[0]):
            return _differs(f"{scope.module}.{name}", live, literal[0], source)
        if seen is source or seen.binding_digest(name) == source.binding_digest(name):
            return None
    elif seen is source or seen.meaning == source.meaning:
        return None
    return (
        f"{scope.module}.{name} was computed before {Path(source.file).name} was edited. Restart the process, or "
        "reload the module, so that the value that is fingerprinted is the one that a worker computes."
    )


def stale_attribute(cls: type, definition: ast.ClassDef, source: Source) -> str | None:
    """Return what is wrong with a class attribute whose value in memory is not its file's; None when all is well."""
    assigned: dict[str, list[ast.expr | None]] = {}
    for statement in definition.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name):
                assigned.setdefault(target.id, []).append(getattr(statement, "value", None))
    for name, values in assigned.items():
        live = vars(cls).get(name, _MISSING)
        literal = literal_of(values[0]) if len(values) == 1 and values[0] is not None else None
        if literal is not None and type(live) in _SCALARS and not _same(live, literal[0]):
            return _differs(f"{cls.__qualname__}.{name}", live, literal[0], source)
    return None


def _as_first_seen(variables: Mapping[str, Any], source: Source) -> Source:
    spec = variables.get("__spec__") or variables  # a reload makes a new spec
    return _first_seen.setdefault((source.file, id(spec)), (spec, source))[1]


def _same(live: Any, written: Any) -> bool:
    return type(live) is type(written) and repr(live) == repr(written)  # 0.0 is not -0.0, (1,) is not (True,)


def _differs(name: str, live: Any, written: Any, source: Source) -> str:
    return (
        f"{name} is {live!r:.60} in memory, but {written!r:.60} in {Path(source.file).name}: the file was edited after "
        "it was imported, or the name was given another value since. A worker would compute with what the file says. "
        "Restart the process or reload the module; or make the value an argument of the step."
    )
