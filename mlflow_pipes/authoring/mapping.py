"""``each(...)``: arguments that a step is mapped over, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from mlflow_pipes.authoring.binding import Bound, Parameters, freeze
from mlflow_pipes.authoring.reference import OutputRef, hint_of
from mlflow_pipes.authoring.shapes import Kind, shape_of
from mlflow_pipes.errors import ArgumentError
from mlflow_pipes.hints import show
from mlflow_pipes.model.graph import MapOver


class Each:
    """An argument given by name whose items are given one by one."""

    __slots__ = ("items",)

    declared_only = True

    def __init__(self, items: Any) -> None:
        self.items = items

    def __repr__(self) -> str:
        return f"each({self.items!r})"


def each(items: Any) -> Any:
    """Have ``step.map`` give an argument's items one by one: ``train.map(data=table, depth=each([4, 8]))``.

    Args:
        items: a list, tuple or dict, or the output of a step that is one.
    """
    return Each(items)


def bind_mapped(
    parameters: Parameters, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, product: bool
) -> tuple[dict[str, Bound], MapOver, Any]:
    """Return the arguments of a map, what it is over, and the annotation of its output.

    Positional arguments, and those marked by :func:`each`, are mapped over; all others are shared.

    Raises:
        ArgumentError: an argument is missing, unknown, cannot be mapped over, or nothing is.
    """
    by_position = [argument.items if isinstance(argument, Each) else argument for argument in args]
    mapped = dict(zip(parameters.names, by_position, strict=False))
    mapped |= {name: argument.items for name, argument in kwargs.items() if isinstance(argument, Each)}
    if not mapped:
        raise ArgumentError(
            f"{parameters.culprit} is mapped over nothing: give it a list by position, or mark one with each(...)"
        )
    stand_ins = {name: _item_of(name, value, parameters) for name, value in mapped.items()}
    positional = tuple([stand_ins.get(name, argument) for name, argument in zip(parameters.names, args, strict=False)])
    bound = parameters.bind(
        positional + args[len(positional) :], {name: stand_ins.get(name, argument) for name, argument in kwargs.items()}
    )
    for name, value in mapped.items():
        items = list(value) if isinstance(value, range) else value
        bound[name] = freeze(items, f"{parameters.culprit}, argument {name!r}")
    keyed = len(mapped) == 1 and not product and all(_is_dict(value) for value in mapped.values())
    item: Any = parameters.returns
    returns = dict.__class_getitem__((str, item)) if keyed else list.__class_getitem__(item)
    unknown = any(
        type(value) is OutputRef and shape_of(hint_of(value)).kind is Kind.UNKNOWN for value in mapped.values()
    )
    return bound, MapOver(tuple(mapped), product), Any if len(mapped) == 1 and unknown else returns


def _is_dict(value: Any) -> bool:
    if type(value) is OutputRef:
        return shape_of(hint_of(value)).kind in {Kind.DICT, Kind.KEYED}
    return isinstance(value, dict)


def _item_of(name: str, value: Any, parameters: Parameters) -> OutputRef:
    """Return a reference that stands for one item, of its annotation, so that it is checked as any other."""
    if type(value) is OutputRef:
        shape = shape_of(hint_of(value))
        if shape.kind in {Kind.OPAQUE, Kind.RECORD, Kind.NAMED}:
            raise ArgumentError(
                f"{parameters.culprit} is mapped over {name!r}, an output declared as {show(hint_of(value))}, which "
                "has no items; map over a list, a tuple or a dict"
            )
        hint = shape.item if shape.kind in {Kind.LIST, Kind.DICT} else Any
        return OutputRef(cast("Any", _CALL), (), hint)
    if not isinstance(value, list | tuple | dict | range):
        raise ArgumentError(
            f"{parameters.culprit} is mapped over {name!r}, which is {value!r}: give it a list, a tuple or a dict; "
            "what all calls share is given by name"
        )
    return OutputRef(cast("Any", _CALL), (), _common_type(value))


def _common_type(value: Any) -> Any:
    kinds = set(map(type, value.values() if isinstance(value, dict) else value))
    kind = kinds.pop() if len(kinds) == 1 else Any
    return kind if kind in {int, float, str, bool} else Any


_CALL = SimpleNamespace(step=SimpleNamespace(name="each"))  # stands for the call behind an item, in errors
