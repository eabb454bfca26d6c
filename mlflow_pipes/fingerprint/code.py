"""The fingerprint of a step's code: everything first-party that its function reaches, and the versions of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from mlflow_pipes.digests import digest_record
from mlflow_pipes.errors import FingerprintError
from mlflow_pipes.fingerprint.link import Linker
from mlflow_pipes.fingerprint.modules import file_value
from mlflow_pipes.fingerprint.objects import step_function
from mlflow_pipes.fingerprint.project import STEP_LIBRARY, top_level
from mlflow_pipes.fingerprint.reach import Target, Value, survey
from mlflow_pipes.fingerprint.scopes import LiveScope, Place, Territory, python
from mlflow_pipes.model.step import CodeFingerprint


def fingerprint(
    function: Callable[..., Any], *, uses: Iterable[Any] = (), version: str | None = None, replace_code: bool = False
) -> CodeFingerprint:
    """Return the fingerprint of a step's code.

    Args:
        function: the step's function (or a step, a partial, a callable object).
        uses: further functions, classes, modules, values, and files or folders (as ``Path``) that the code depends
            on in ways that cannot be seen.
        version: the user's word for the code's version; changes the digest when it changes.
        replace_code: let *version* and *uses* stand instead of the code.

    Raises:
        FingerprintError: something the code reaches cannot be fingerprinted, or its source was edited after it was
            imported. Values that cannot be fingerprinted become warnings when *uses* or *version* is given.

    Costs a few milliseconds the first time a file is read, then some 100 microseconds a step.
    """
    plain = step_function(function) or function
    used = list(uses)
    if replace_code and version is None:
        raise FingerprintError(f"{_name_of(plain)}: replace_code=True needs version='...' to stand for the code")
    linker = Linker(
        Territory(own_steps=_is_own_step(plain)), root=plain, vouched=replace_code or version is not None or bool(used)
    )
    roots: dict[str, Target] = {"python": python("python")}
    if version is not None:
        roots["version"] = Value("version", "version", ("version", version))
    for number, item in enumerate(used):
        roots[f"uses {number:06}"] = _used(linker, item, number)
    if replace_code:
        return _replaced(linker, plain, roots)
    roots["step"] = _root(linker, plain)
    digest, leaves, shape = survey(roots)
    return CodeFingerprint(
        digest=digest,
        leaves=tuple(leaves),
        sources=tuple(sorted(linker.files.items())),
        warnings=tuple(linker.warnings),
        distributions=frozenset(leaf.name for leaf in leaves if leaf.kind == "distribution"),
        shape=shape,
    )


def _replaced(linker: Linker, plain: Any, roots: dict[str, Target]) -> CodeFingerprint:
    """Return a fingerprint made of version and uses; the code is looked at only for the distributions it reaches."""
    del roots["python"]
    digest, leaves, shape = survey(roots)
    files = tuple(sorted(linker.files.items()))
    try:
        reached = survey({"step": _root(linker, plain)}).leaves
    except FingerprintError:
        reached = []
    return CodeFingerprint(
        digest=digest_record("pipes.code-version/1", (digest,)),
        leaves=tuple(leaves),
        sources=files,
        distributions=frozenset(leaf.name for leaf in (*leaves, *reached) if leaf.kind == "distribution"),
        shape=digest_record("pipes.code-version/1", (shape,)),
    )


def _root(linker: Linker, plain: Any) -> Target:
    return linker.value(plain, Place("step", _name_of(plain), LiveScope({}, None)))


def _used(linker: Linker, item: Any, number: int) -> Target:
    if isinstance(item, Path):
        return file_value(linker, item.absolute())
    return linker.value(item, Place("uses", f"uses[{number}]", LiveScope({}, None)))


def _name_of(plain: Any) -> str:
    return str(getattr(plain, "__qualname__", type(plain).__qualname__))


def _is_own_step(plain: Any) -> bool:
    while isinstance(plain, (partial, MethodType)):
        plain = plain.func if isinstance(plain, partial) else plain.__func__
    return isinstance(plain, FunctionType) and top_level(str(plain.__globals__.get("__name__"))) == STEP_LIBRARY
