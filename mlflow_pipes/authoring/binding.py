"""Arguments of a call: bound to parameters, checked against annotations, frozen, with references at any depth."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias

from mlflow_pipes.authoring.assignable import SCALARS, Misfit, conflicts, depends_on_value, misfit
from mlflow_pipes.authoring.reference import OutputRef, hint_of, text_of
from mlflow_pipes.errors import ArgumentError, DeclarationError, suggest
from mlflow_pipes.hints import NoneType, hints_of, is_named_tuple, show
from mlflow_pipes.model.artifact import CollectionKind
from mlflow_pipes.model.graph import Constant, Outcome, PathItem
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.spark_session import mentions_frames, session_parameters
from mlflow_pipes.wording import clipped


@dataclass(frozen=True, slots=True)
class Nest:
    """A list, tuple, dict or record with references in it; becomes a ``Gather`` when nodes have their names."""

    kind: CollectionKind
    items: tuple[Bound, ...]
    keys: tuple[PathItem, ...] = ()
    type_name: str = ""


Bound: TypeAlias = Constant | OutputRef | Nest | Outcome


class Parameters:
    """The parameters of a step's or pipeline's function, prepared so that binding a call takes microseconds.

    Raises:
        DeclarationError: the function takes ``*args`` or positional-only parameters, has a mutable default, or its
            signature cannot be read.
    """

    __slots__ = (
        "_accepted",
        "_function",
        "_further",
        "_hints",
        "_known",
        "_names",
        "_required",
        "_sessions",
        "_takes_steps",
        "culprit",
        "defaults",
    )

    def __init__(self, function: Callable[..., Any], culprit: str, *, takes_steps: bool = False) -> None:
        self._takes_steps = takes_steps
        self.culprit = culprit
        self._function = function
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError) as error:
            raise DeclarationError(f"{culprit}: its signature cannot be read ({error}); wrap it in a `def`") from error
        for parameter in parameters.values():
            _check_parameter(parameter, culprit)
        plain = [p for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
        self._names = tuple(p.name for p in plain if p.kind is not p.KEYWORD_ONLY)
        self._known = frozenset(p.name for p in plain)
        # given by the target that the step runs on, where the caller gives nothing
        self._sessions = frozenset() if takes_steps else session_parameters(plain)
        self._required = frozenset(p.name for p in plain if p.default is p.empty) - self._sessions
        # what `**kwargs` is called, if there is one; workers pass its items one by one
        self._further = next((p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
        self.defaults: Mapping[str, Any] = {p.name: p.default for p in plain if p.default is not p.empty}
        self._hints: dict[str, Any] | None = None
        # by parameter: classes of scalars that fit whatever their value
        self._accepted: dict[str, set[type]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that can be given by position, in order."""
        return self._names

    @property
    def required(self) -> frozenset[str]:
        """The parameters without a default."""
        return self._required

    @property
    def returns(self) -> Any:
        """The annotation of the output; ``Any`` where there is none."""
        return self._annotations().get("return", Any)

    @property
    def wants_spark(self) -> bool:
        """Whether the function can only run where there is Spark: it takes a session, or data frames of Spark's."""
        return bool(self._sessions) or any(map(mentions_frames, self._annotations().values()))

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Bound]:
        """Return what each parameter was given; defaults not given are left out.

        Raises:
            ArgumentError: an argument is missing, unknown, given twice or certainly of the wrong type.
        """
        bound = dict(zip(self._names, args, strict=False))
        if kwargs:
            bound |= kwargs
        if (
            len(bound) != len(args) + len(kwargs)
            or not self._required <= bound.keys()
            or not (bound.keys() <= self._known or self._takes(bound))
        ):
            self._refuse_binding(args, kwargs)
        hints = self._hints if self._hints is not None else self._annotations()
        accepted = self._accepted
        for name, value in bound.items():
            cls = type(value)
            if cls in SCALARS:
                if cls not in accepted[name if name in accepted else ""]:
                    self._check(name, value)
                bound[name] = Constant(value)
            elif cls is OutputRef:
                if name in hints and conflicts(hint_of(value), hints[name]):
                    self._refuse_type(name, Misfit(value, hints[name]))
            else:
                self._check(name, value)
                bound[name] = self._frozen(name, value)
        return bound

    def _takes(self, bound: dict[str, Any]) -> bool:
        return self._further is not None and self._further not in bound

    def _annotations(self) -> dict[str, Any]:
        if self._hints is None:
            hints = hints_of(self._function)
            for name, default in self.defaults.items():
                if default is None and name in hints:
                    hints[name] = hints[name] | None if hints[name] is not Any else Any
            self._accepted = {name: set() for name in (*self._known, "")}  # "": all that `**kwargs` takes
            self._hints = {name: hint for name, hint in hints.items() if name in self._known or name == "return"}
        return self._hints

    def _check(self, name: str, value: Any) -> None:
        hint = self._annotations().get(name, Any)
        if wrong := misfit(value, hint):
            self._refuse_type(name, wrong)
        if not depends_on_value(hint):
            self._accepted[name if name in self._known else ""].add(type(value))

    def _frozen(self, name: str, value: Any) -> Bound:
        where = f"{self.culprit}, argument {name!r}"
        try:
            return freeze(value, where, steps=self._takes_steps)
        except RecursionError:
            raise ArgumentError(f"{where}: it contains itself, or is nested too deep; pass a flatter value") from None

    def _refuse_binding(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        takes = f"it takes ({', '.join(self._signature_texts())})"
        if len(args) > len(self._names):
            raise ArgumentError(f"{self.culprit} was given {len(args)} positional arguments; {takes}")
        for name in kwargs:
            if name not in self._known and self._further is None:
                raise ArgumentError(
                    f"{self.culprit} has no parameter {name!r}{suggest(name, self._known) or '; ' + takes}"
                )
            if name == self._further:
                raise ArgumentError(f"{self.culprit} takes what is not named as `**{name}`; give {name!r} another name")
            if name in self._names[: len(args)]:
                raise ArgumentError(f"{self.culprit} was given {name!r} twice, by position and by name; give it once")
        missing = sorted(self._required - set(self._names[: len(args)]) - kwargs.keys())
        raise ArgumentError(f"{self.culprit} is missing {', '.join(map(repr, missing))}; {takes}")

    def _signature_texts(self) -> list[str]:
        hints = self._annotations()
        ordered = [*self._names, *sorted(self._known - set(self._names))]
        return [
            name
            + (f": {show(hints[name])}" if name in hints else "")
            + (f" = {self.defaults[name]!r}" if name in self.defaults else "")
            for name in ordered
        ] + ([f"**{self._further}"] if self._further else [])

    def _refuse_type(self, name: str, wrong: Misfit) -> NoReturn:
        place = name + "".join(f"[{item!r}]" for item in wrong.path)
        wants = f"{self.culprit} wants {show(wrong.wanted)} for {place!r}"
        if type(wrong.value) is OutputRef:
            gives = hint_of(wrong.value)
            nothing = "which returns nothing" if gives is NoneType else f"which is declared as {show(gives)}"
            raise ArgumentError(
                f"{wants}, but was given {text_of(wrong.value)}, {nothing}; "
                "give it another output, or correct the annotation that is wrong"
            )
        raise ArgumentError(f"{wants}, but was given {_short(wrong.value)}{_remedy(wrong.value, wrong.wanted)}")


def _check_parameter(parameter: inspect.Parameter, culprit: str) -> None:
    name = parameter.name
    if parameter.kind is parameter.VAR_POSITIONAL:
        raise DeclarationError(
            f"{culprit} takes `*{name}`, but arguments are keyed by name; take one list: `{name}: list`"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise DeclarationError(
            f"{culprit}: {name!r} is positional-only, but arguments are keyed by name; remove the `/`"
        )
    if isinstance(parameter.default, (list, dict, set, bytearray)):
        kind = type(parameter.default).__name__
        remedy = "`()`" if isinstance(parameter.default, list) else "`None`"
        raise DeclarationError(
            f"{culprit}: the default of {name!r} is a mutable {kind}, shared by all calls; "
            f"write {remedy} and make the {kind} inside"
        )
    if type(parameter.default) is OutputRef:
        raise DeclarationError(
            f"{culprit}: the default of {name!r} is the output of {text_of(parameter.default)}; "
            "make that call in a pipeline function and pass it"
        )


def _short(value: Any) -> str:
    return f"{clipped(repr(value), 60)} ({show(type(value))})"


def _remedy(value: Any, wanted: Any) -> str:
    """Return what to write instead, where it can be told."""
    name = show(wanted)
    if isinstance(value, str) and name in {"pathlib.Path", "Path"}:
        return f"; write Path({value!r})"
    if isinstance(value, str) and wanted in {int, float} and _reads_as(value, wanted):
        return f"; write {wanted(value)!r}"
    if isinstance(value, list) and name.startswith("tuple"):
        return "; write a tuple: (a, b)"
    return "; pass what the annotation says, or correct it"


def _reads_as(text: str, kind: Callable[[str], Any]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def freeze(value: Any, where: str, *, steps: bool = False) -> Bound:  # noqa: PLR0911 - one case a line
    """Return the value as it stands now: containers are copied, so that changing them later changes no graph.

    Lists, tuples, dicts, named tuples and dataclasses with references in them become a :class:`Nest`.

    Steps stand in it only where *steps* allows: a pipeline may be told which steps to call.

    Raises:
        ArgumentError: something in it cannot be an argument; *where* is named.
    """
    cls = type(value)
    if cls is OutputRef:
        return value  # type: ignore[no-any-return]
    if cls in SCALARS:
        return Constant(value)
    if cls is list or cls is tuple:
        return _freeze_items(cls.__name__, value, where, steps)
    if cls is dict:
        return _freeze_dict(value, where, steps)
    if cls is set or cls is bytearray:
        return Constant(value.copy())
    if is_named_tuple(cls):
        return _freeze_record(value, cls._fields, tuple(value), where, steps)
    if dataclasses.is_dataclass(cls):
        names = tuple(field.name for field in dataclasses.fields(cls))
        return _freeze_record(value, names, tuple(getattr(value, name) for name in names), where, steps)
    if not steps and getattr(cls, "declares_calls", False):
        raise ArgumentError(f"{where} is {value!r} itself; call it, or pass its plain function (`.function`)")
    if getattr(cls, "declared_only", False):
        raise ArgumentError(
            f"{where} is {value!r}; call that pipeline inside the pipeline function, or pass run(...).output()"
        )
    return Constant(value)


def _freeze_items(kind: Any, value: list[Any] | tuple[Any, ...], where: str, steps: bool) -> Bound:
    if SCALARS.issuperset(map(type, value)):
        return Constant(value[:])
    items = tuple([freeze(item, where, steps=steps) for item in value])
    if all(type(item) is Constant for item in items):
        return Constant(type(value)(_values(items)))
    return Nest(kind, items)


def _freeze_dict(value: dict[Any, Any], where: str, steps: bool) -> Bound:
    items = tuple([freeze(item, where, steps=steps) for item in value.values()])
    if all(type(item) is Constant for item in items):
        return Constant(dict(zip(value, _values(items), strict=True)))
    for key in value:
        if type(key) is not str and type(key) is not int:
            raise ArgumentError(
                f"{where}: a dict with outputs of steps in it has the key {key!r}; use str or int as keys"
            )
    return Nest("dict", items, tuple(value))


def _freeze_record(value: Any, names: tuple[str, ...], values: tuple[Any, ...], where: str, steps: bool) -> Bound:
    items = tuple([freeze(item, where, steps=steps) for item in values])
    if all(type(item) is Constant for item in items):
        return Constant(value)
    from mlflow_pipes.content.naming import type_name

    return Nest("record", items, names, type_name(type(value)))


def _values(items: tuple[Bound, ...]) -> Iterator[Any]:
    return (item.value for item in items if isinstance(item, Constant))


def references_in(bound: Bound) -> Iterator[OutputRef]:
    """Yield every reference in what was bound, depth first."""
    if type(bound) is OutputRef:
        yield bound
    elif type(bound) is Nest:
        for item in bound.items:
            yield from references_in(item)
