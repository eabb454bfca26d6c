"""Compiled code: whether two code objects do the same, and what a function without source is made of."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType
from typing import Any

from mlflow_pipes.digests import Part, digest_record
from mlflow_pipes.fingerprint.names import Names, Origin, Use

_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, Python 3.13 on
_NO_LOCALS = 0x2  # CO_NEWLOCALS: set for functions only


def same_code(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same; file names, lines and docstrings do not count."""
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and one.co_freevars == other.co_freevars
        and one.co_cellvars == other.co_cellvars
        and one.co_argcount == other.co_argcount
        and one.co_kwonlyargcount == other.co_kwonlyargcount
        and one.co_posonlyargcount == other.co_posonlyargcount
        and one.co_exceptiontable == other.co_exceptiontable
        and len(one.co_consts) == len(other.co_consts)
        and all(map(_same_constant, _constants(one), _constants(other)))
    )


def _same_constant(one: Any, other: Any) -> bool:
    if isinstance(one, CodeType):
        return isinstance(other, CodeType) and same_code(one, other)
    if isinstance(one, frozenset):
        return isinstance(other, frozenset) and one == other
    return type(one) is type(other) and repr(one) == repr(other)


def _constants(code: CodeType) -> tuple[Any, ...]:
    """Return the constants with the docstring blanked: before Python 3.13 the first one is a docstring or None."""
    consts = code.co_consts
    if not consts or not isinstance(consts[0], str) or not code.co_flags & _NO_LOCALS or code.co_name == "<lambda>":
        return consts
    if hasattr(dis, "hasjump") and not code.co_flags & _HAS_DOCSTRING:  # dis.hasjump came with 3.13
        return consts
    return (None, *consts[1:])


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def first_position(code: CodeType) -> tuple[int, int]:
    """Return line and column of the first instruction that has both; (0, 0) when positions were not kept."""
    known = [(line, column) for line, _, column, _ in code.co_positions() if line is not None and column is not None]
    return min((place for place in known if place[1] or place[0] != code.co_firstlineno), default=(0, 0))


def digest_of_bytecode(code: CodeType) -> str:
    """Return the hash of a code object, for functions whose source is not to be had (``python -c``)."""
    return digest_record("pipes.bytecode/1", (_part(code),))


def _part(code: CodeType) -> Part:
    constants = tuple(
        _part(constant) if isinstance(constant, CodeType) else _constant_part(constant) for constant in _constants(code)
    )
    return (
        code.co_code,
        constants,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_posonlyargcount,
        code.co_flags,
        code.co_exceptiontable,
    )


def _constant_part(constant: Any) -> Part:
    if isinstance(constant, frozenset):
        return ("frozenset", *sorted(repr(item) for item in constant))
    if isinstance(constant, tuple):
        return ("tuple", *map(_constant_part, constant))
    return (type(constant).__name__, repr(constant))


def names_of_bytecode(code: CodeType) -> Names:
    """Return the outside names of compiled code with the attributes read from them, and its imports."""
    found: dict[tuple[str, tuple[str, ...]], Use] = {}
    for inner in nested_codes(code):
        for use in _uses(inner):
            if use.origin is not None or use.name not in _bound_above(code, inner):
                found.setdefault((use.label, use.attributes), use)
    return Names(tuple(sorted(found.values(), key=lambda use: (use.label, use.attributes))))


def _bound_above(code: CodeType, inner: CodeType) -> set[str]:
    """Return the cell variables that nested code shares with *code*; they are not outside names."""
    return set() if inner is code else set(code.co_cellvars).union(*(c.co_cellvars for c in nested_codes(code)))


def _uses(code: CodeType) -> Iterator[Use]:
    line = code.co_firstlineno
    instructions = [
        item for item in dis.get_instructions(code) if item.opname not in {"CACHE", "PRECALL", "COPY_FREE_VARS"}
    ]
    imports = 0
    for position, item in enumerate(instructions):
        if item.opname in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS"}:
            if item.opname in {"LOAD_DEREF", "LOAD_CLASSDEREF"} and item.argval not in code.co_freevars:
                continue
            attributes = []
            for following in instructions[position + 1 :]:
                if following.opname not in {"LOAD_ATTR", "LOAD_METHOD"}:
                    break
                attributes.append(str(following.argval))
            yield Use(item.argval, item.argval, tuple(attributes), None, line)
        elif item.opname == "IMPORT_NAME":
            names = instructions[position - 1].argval or ()
            level = int(instructions[position - 2].argval or 0)
            for name in names or (None,):
                label = f"{name or item.argval}#{imports}"
                imports += 1
                yield Use(label, name or item.argval, (), Origin(item.argval, level, name), line)
