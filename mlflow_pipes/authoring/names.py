"""Names of nodes: readable, unique, and the same as long as the calls of that step are the same.

The only call of a step is named as the step. Of several, each shows the plain constants in which they differ:
``train[max_depth=4]``, ``train[max_depth=8]``. What that does not tell apart is counted: ``load``, ``load#2``.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mlflow_pipes.authoring.assignable import SCALARS
from mlflow_pipes.authoring.declaration import Call, Group, Item
from mlflow_pipes.errors import GraphError
from mlflow_pipes.hints import plain_function
from mlflow_pipes.model.graph import Constant
from mlflow_pipes.wording import label_text

LONGEST_TEXT = 40
LONGEST_NAME = 100


def assign(items: Iterable[Item]) -> dict[Item, str]:
    """Return the id of every call and group: its name, with those of the groups around it: ``outer/train``.

    Cost: linear in the number of arguments. *items* stand in the order of declaration, groups before what is in them.

    Raises:
        GraphError: two calls were given one name, or two functions in one pipeline share theirs.
    """
    scopes: dict[Group | None, list[Item]] = defaultdict(list)
    for item in items:
        scopes[item.parent if isinstance(item, Group) else item.group].append(item)
    ids: dict[Item, str] = {}
    for group, members in scopes.items():  # a group's own id is there before its members': see *items*
        prefix = "" if group is None else f"{ids[group]}/"
        for item, name in _assign_in_scope(members):
            ids[item] = prefix + name
    return ids


def _assign_in_scope(items: Sequence[Item]) -> Iterable[tuple[Item, str]]:
    taken: dict[str, Item] = {}
    unnamed: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        source = _source(item)
        if source.call_name is None:
            unnamed[source.name].append(item)
        elif source.call_name in taken:
            raise GraphError(
                f"two steps with one name: {source.call_name!r} was given to a call of {source.name!r} and to one of "
                f"{_source(taken[source.call_name]).name!r}; give each `.options(name=...)` its own"
            )
        else:
            taken[source.call_name] = item
    names = {item: name for name, item in taken.items()}
    numbers: dict[str, int] = {}
    for name, calls in unnamed.items():
        _check_one_function(name, calls)
        for item, label in zip(calls, _labels(name, calls), strict=True):
            unique, number = label, numbers.get(label, 1)
            while unique in taken:
                number += 1
                unique = f"{label}#{number}"
            numbers[label] = number
            taken[unique] = item
            names[item] = unique
    return names.items()


def _source(item: Item) -> Any:
    return item.step if isinstance(item, Call) else item.pipeline


def _check_one_function(name: str, items: Sequence[Item]) -> None:
    first = _source(items[0]).function
    for item in items:
        function = _source(item).function
        if function is not first:
            raise GraphError(
                f"two steps with one name: {name!r} is the function in {_place(first)} and another one in "
                f"{_place(function)}; give one of them another name with `@step(name=...)`"
            )


def _place(function: Callable[..., Any]) -> str:
    code = getattr(plain_function(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def _labels(name: str, items: Sequence[Item]) -> list[str]:
    """Return one label for each call; calls that constants do not tell apart share theirs."""
    if len(items) == 1:
        return [name]
    defaults = _texts(_source(items[0]).parameters.defaults)
    fed: set[str] = set()  # parameters that some call takes from another step: such a one tells nothing
    texts = [_argument_texts(item.arguments, defaults, fed) for item in items]
    values: dict[str, set[str]] = defaultdict(set)
    seen: dict[str, int] = defaultdict(int)
    for text in texts:
        for parameter, value in text.items():
            values[parameter].add(value)
            seen[parameter] += 1
    telling = [p for p in values if p not in fed and (len(values[p]) > 1 or seen[p] < len(items))]
    labels = []
    for text in texts:
        inside = ", ".join([f"{p}={text[p]}" for p in telling if p in text])
        label = f"{name}[{inside}]" if inside else name
        labels.append(label if len(label) <= LONGEST_NAME else name)
    return labels


def _argument_texts(arguments: Mapping[str, Any], defaults: Mapping[str, str], fed: set[str]) -> dict[str, str]:
    texts = dict(defaults)
    for name, bound in arguments.items():
        if type(bound) is Constant:
            text = _text(bound.value)
            if text is not None:
                texts[name] = text
                continue
        else:
            fed.add(name)
        texts.pop(name, None)
    return texts


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for name, value in values.items() if (text := _text(value)) is not None}


def _text(value: Any) -> str | None:
    """Return a short constant as it shows in a name; None for what does not."""
    cls = type(value)
    if cls is int or cls is float or cls is bool or value is None:
        return repr(value)
    if isinstance(value, enum.Enum) or getattr(cls, "declares_calls", False):
        return str(value.name)
    if isinstance(value, PurePath):
        value = value.name
    elif cls not in SCALARS:
        return str(value) if cls.__module__ in {"datetime", "numpy"} and len(str(value)) <= LONGEST_TEXT else None
    return label_text(value, LONGEST_TEXT) if isinstance(value, str) else None
