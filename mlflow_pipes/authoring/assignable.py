"""Whether an output or a constant can be what a parameter's annotation wants. Only certain mismatches count.

Own code rather than a library: ``beartype`` and ``typeguard`` answer "is surely a subtype" or check values only, while
an edge is wrong only when *no* value of the declared output can be right (``Any``, a base class, one member of a union
may be), and tables of different libraries stand for each other because content converts them.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import numbers
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, Literal, get_args, get_origin

from mlflow_pipes.authoring.reference import OutputRef, hint_of
from mlflow_pipes.hints import NoneType, bare, is_named_tuple, is_typed_dict, is_union, members
from mlflow_pipes.model.graph import PathItem
from mlflow_pipes.quick_dataclasses import dataclass

SCALARS: frozenset[type] = frozenset({int, float, bool, str, bytes, complex, NoneType})
# as content's table codec has them: what it stores, and what it gives to whoever asks for it
_TABLES = frozenset(
    {
        ("pandas", "DataFrame"), ("pyarrow", "Table"), ("pyarrow", "RecordBatch"), ("polars", "DataFrame"),
        ("dask", "DataFrame"), ("dask_expr", "DataFrame"), ("pyspark", "DataFrame"),
    }
)  # fmt: skip
_STORED_AS_TABLE = _TABLES | {("pandas", "Series")}
_GIVEN_FOR_TABLE = _TABLES | {("pyarrow", "RecordBatchReader")}
_ARRAYS = frozenset({("numpy", "ndarray"), ("dask", "Array")})
# Models are given as what the consumer asks for: the estimator, MLflow's wrapper, or the folder of the MLflow model.
_ANY_MODEL = frozenset({("mlflow", "PyFuncModel"), ("mlflow_pipes", "SignedModel")})
_MODEL_PACKAGES = frozenset(
    {"sklearn", "xgboost", "lightgbm", "catboost", "torch", "keras", "tensorflow", "statsmodels", "prophet", "mlflow",
     "spacy", "onnx", "transformers", "sentence_transformers", "pyspark"}
)  # fmt: skip


def conflicts(produced: Any, wanted: Any) -> bool:
    """Tell that no value of type *produced* can be a *wanted*. Cached; unknown types conflict with nothing."""
    if produced is wanted or produced is Any or wanted is Any:
        return False
    try:
        return _cached(produced, wanted)
    except TypeError:  # unhashable metadata in Annotated or Literal
        return _conflicts(produced, wanted)


def _conflicts(produced: Any, wanted: Any) -> bool:  # noqa: PLR0911 - one case a line
    produced, wanted = bare(produced), bare(wanted)
    if produced is Any or wanted is Any:
        return False
    if is_union(produced):
        return all(conflicts(member, wanted) for member in members(produced))
    if is_union(wanted):
        return all(conflicts(produced, member) for member in members(wanted))
    if get_origin(produced) is Literal:
        return all(misfit(value, wanted) is not None for value in get_args(produced))
    if get_origin(wanted) is Literal:
        return all(conflicts(type(value), produced) for value in get_args(wanted))
    made, wish = _class_of(produced), _class_of(wanted)
    if made is None or wish is None:
        return False
    if not _related(made, wish):
        return True
    if is_typed_dict(produced) or is_typed_dict(wanted):
        return False
    return _items_conflict(get_args(produced), get_args(wanted), made, wish)


_cached = functools.lru_cache(maxsize=8192)(_conflicts)


def _class_of(hint: Any) -> type | None:
    """Return the class that values of a bare hint are instances of; None when it cannot be told."""
    if is_typed_dict(get_origin(hint) or hint):
        return dict
    cls = get_origin(hint) or hint
    if not isinstance(cls, type) or cls in {type, collections.abc.Callable, collections.abc.Hashable}:
        return None
    return cls


def _related(made: type, wish: type) -> bool:
    """Tell that an instance of one class may be, or be turned into, one of the other."""
    if getattr(made, "_is_protocol", False) or getattr(wish, "_is_protocol", False):
        return True
    try:
        if issubclass(made, wish) or issubclass(wish, made):
            return True
    except TypeError:
        return True
    return _is_promoted(made, wish) or _is_converted(made, wish) or _have_common_subclass(made, wish)


def _is_converted(made: type, wish: type) -> bool:
    """What content gives for something else: a table of another library, what MLflow makes of a stored model."""
    if _names(made) & _STORED_AS_TABLE and _names(wish) & _GIVEN_FOR_TABLE:
        return True
    if _package_and_name(made) in _ARRAYS and _package_and_name(wish) in _ARRAYS:
        return True
    if _package_and_name(made) in _ANY_MODEL or _package_and_name(wish) in _ANY_MODEL:
        return not ({made, wish} & (SCALARS | _CONTAINERS))
    return issubclass(wish, PurePath) and any(package in _MODEL_PACKAGES for package, _ in _names(made))


def _is_promoted(made: type, wish: type) -> bool:
    """``int`` is fine for ``float``, NumPy's numbers for Python's (PEP 484's numeric tower)."""
    if wish is float:
        return issubclass(made, numbers.Real)
    if wish is complex:
        return issubclass(made, numbers.Complex)
    if wish is int:
        return issubclass(made, numbers.Integral)
    if wish is bool:
        return _package_and_name(made) in {("numpy", "bool"), ("numpy", "bool_")}
    return made in SCALARS and wish.__module__ == "numpy" and wish.__name__ != "ndarray"


def _names(cls: type) -> set[tuple[str, str]]:
    return {_package_and_name(parent) for parent in cls.__mro__}


def _package_and_name(cls: type) -> tuple[str, str]:
    return cls.__module__.partition(".")[0], cls.__name__


def _have_common_subclass(one: type, other: type) -> bool:
    """Mixins: a value declared as ``BaseEstimator`` may well be a ``ClassifierMixin``, if a loaded class is both."""
    seen: set[type] = set()
    waiting = [one]
    while waiting:
        children: list[type] = type.__subclasses__(waiting.pop())
        for child in children:
            if child not in seen:
                seen.add(child)
                if other in child.__mro__:
                    return True
                waiting.append(child)
    return False


def _items_conflict(made: Sequence[Any], wish: Sequence[Any], made_cls: type, wish_cls: type) -> bool:
    if not made or not wish or not _is_container(made_cls) or not _is_container(wish_cls):
        return False
    if issubclass(made_cls, collections.abc.Mapping) or issubclass(wish_cls, collections.abc.Mapping):
        return len(made) == len(wish) and any(map(conflicts, made, wish))
    made_each, wish_each = _each(made_cls, made), _each(wish_cls, wish)
    if made_each is not None and wish_each is not None:
        return conflicts(made_each, wish_each)
    if made_each is not None:
        return any(conflicts(made_each, hint) for hint in wish)
    if wish_each is not None:
        return any(conflicts(hint, wish_each) for hint in made)
    return len(made) != len(wish) or any(map(conflicts, made, wish))


def _is_container(cls: type) -> bool:
    return cls in _CONTAINERS or cls.__module__ == "collections.abc"


_CONTAINERS = frozenset({list, tuple, dict, set, frozenset, collections.deque, collections.defaultdict})


def _each(cls: Any, arguments: Sequence[Any]) -> Any | None:
    """Return the hint that all items share; None for a tuple of known length."""
    if cls is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return None
    return arguments[0]


@dataclass(frozen=True, slots=True)
class Misfit:
    """What does not fit: the value or reference, where it stands in the argument, and the hint that it had to meet."""

    value: Any
    wanted: Any
    path: tuple[PathItem, ...] = ()

    def below(self, item: PathItem) -> Misfit:
        """Return the same, seen from the container around it."""
        return Misfit(self.value, self.wanted, (item, *self.path))


def misfit(value: Any, hint: Any) -> Misfit | None:  # noqa: PLR0911 - one case a line
    """Return what in a constant (with references at any depth) certainly is not what *hint* wants."""
    hint = bare(hint)
    if hint is Any:
        return None
    if type(value) is OutputRef:
        return Misfit(value, hint) if conflicts(hint_of(value), hint) else None
    if is_union(hint):
        return None if any(misfit(value, member) is None for member in members(hint)) else Misfit(value, hint)
    if get_origin(hint) is Literal:
        allowed = any(type(value) is type(option) and value == option for option in get_args(hint))
        return None if allowed else Misfit(value, hint)
    if get_origin(hint) is collections.abc.Callable or hint is collections.abc.Callable:
        return None if callable(value) else Misfit(value, hint)
    cls = _class_of(hint)
    if cls is None or getattr(cls, "_is_protocol", False):
        return None
    if not _is_instance(value, cls):
        return Misfit(value, hint)
    return _misfit_inside(value, hint, get_args(hint))


def _is_instance(value: Any, cls: type) -> bool:
    made = type(value)
    if made in SCALARS and cls in SCALARS:
        return issubclass(made, cls) or _is_promoted(made, cls)
    try:
        if isinstance(value, cls):
            return True
    except TypeError:
        return True
    return _is_promoted(made, cls) or _is_converted(made, cls)


def _misfit_inside(value: Any, hint: Any, arguments: tuple[Any, ...]) -> Misfit | None:
    if is_named_tuple(type(value)):
        return None
    if isinstance(value, dict) and len(arguments) == 2:
        in_key = _first(zip(value, value, strict=True), value, arguments[0])
        return in_key or _first(value.items(), value.values(), arguments[1])
    if isinstance(value, (list, tuple, set, frozenset)) and arguments:
        each = _each(get_origin(hint), arguments)
        if each is not None:
            return _first(enumerate(value), value, each)
        if len(value) != len(arguments):
            return Misfit(value, hint)
        for position, (item, item_hint) in enumerate(zip(value, arguments, strict=True)):
            if wrong := misfit(item, item_hint):
                return wrong.below(position)
    return None


def _first(places: Iterable[tuple[Any, Any]], values: Iterable[Any], hint: Any) -> Misfit | None:
    """Return the first item that does not fit. Of plain numbers and texts one of each type stands for all."""
    samples = {type(value): value for value in values}
    if samples.keys() <= SCALARS and not depends_on_value(hint) and not any(misfit(v, hint) for v in samples.values()):
        return None
    for place, value in places:
        if wrong := misfit(value, hint):
            return wrong.below(place)
    return None


def depends_on_value(hint: Any) -> bool:
    """Tell that more than a scalar's type decides whether it fits (``Literal``)."""
    return any(get_origin(member) is Literal for member in members(bare(hint)))
