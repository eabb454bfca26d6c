"""Calls whose target only the running program knows: followed where a constant tells, else a warning."""

from __future__ import annotations

import builtins
import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlflow_pipes.fingerprint import read
from mlflow_pipes.fingerprint.names import DynamicAccess, Origin, Use
from mlflow_pipes.fingerprint.scopes import LiveScope

if TYPE_CHECKING:
    from mlflow_pipes.fingerprint.link import Linker
    from mlflow_pipes.fingerprint.reach import Target
    from mlflow_pipes.fingerprint.scopes import Scope

_IMPORTERS = frozenset({"import_module", "__import__"})
_MISSING = object()


def check(linker: Linker, scope: Scope, access: DynamicAccess, edges: dict[str, Target], prefix: str) -> None:
    """Follow or warn about one call of ``getattr``, ``import_module``, ``eval`` and their like."""
    called = (access.call.name, *access.call.attributes)[-1] if access.call.origin is None else _imported_name(access)
    if not _is_what_it_says(scope, access.call, called):
        return
    if called in _IMPORTERS and access.constant is not None:
        target, _ = read.imported(linker, scope, Origin(access.constant.lstrip(".")), ())
        if target is not None:
            edges[f"{prefix}import {access.constant}"] = target
        return
    if called == "getattr":
        subject = _value(scope, access.subject)
        if access.constant is not None or not _is_followed(linker, subject):
            return
        culprit = f"getattr on {'.'.join((access.subject.name, *access.subject.attributes))}" if access.subject else ""
        linker.warn(_warning(linker, scope, access, f"{culprit} with a name that only the running program knows"))
    else:
        linker.warn(_warning(linker, scope, access, f"{called}(...), whose effect only the running program knows"))


def _warning(linker: Linker, scope: Scope, access: DynamicAccess, what: str) -> str:
    return (
        f"{linker.where(scope, access.line)}: {scope.owner or scope.module} calls {what}; the code it reaches is not "
        "in the key. Name that code with uses=[...]."
    )


def _imported_name(access: DynamicAccess) -> str:
    assert access.call.origin is not None
    return (access.call.origin.attribute or "", *access.call.attributes)[-1]


def _is_what_it_says(scope: Scope, call: Use, called: str) -> bool:
    """Whether a call that looks dynamic is: ``frame.eval(...)`` and a user's own ``getattr`` are not."""
    if call.origin is not None:
        return call.origin.module in {"importlib", "builtins"}
    if call.attributes:
        return call.name in {"importlib", "builtins"} and len(call.attributes) == 1
    value = _value(scope, call)
    if value is _MISSING:  # only read: the name alone tells
        return hasattr(builtins, called) or called == "import_module"
    return value is getattr(builtins, called, _MISSING) or value is getattr(importlib, called, None)


def _value(scope: Scope, use: Use | None) -> Any:
    if use is None or use.origin is not None or not isinstance(scope, LiveScope):
        return _MISSING
    value = scope.closure.get(use.name, scope.variables.get(use.name, getattr(builtins, use.name, _MISSING)))
    for attribute in use.attributes:
        if not isinstance(value, (ModuleType, type)):
            return _MISSING
        value = vars(value).get(attribute, _MISSING)
    return value


def _is_followed(linker: Linker, subject: Any) -> bool:
    """Whether what ``getattr`` reads from is first-party, so that what it gives may be code that counts."""
    if subject is _MISSING:
        return False
    if isinstance(subject, ModuleType):
        return not linker.territory.counts_by_version(subject.__name__)
    cls = subject if isinstance(subject, type) else type(subject)
    return not linker.territory.counts_by_version(cls.__module__)
