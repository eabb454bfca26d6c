"""A function's signature as options of a command, and the options' values as the function's arguments."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mlflow_pipes.cli.docstrings import arguments_of
from mlflow_pipes.cli.type_words import metavar_of, text_of
from mlflow_pipes.hints import hints_of, show
from mlflow_pipes.workspace.written_values import (
    can_be_text,
    items_of,
    may_be_none,
    sequence_of,
    value_of,
    without_none,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic before click 8.5

PREFIX = "parameter_"  # of destinations, so that a parameter called ``target`` is not the run's target


class ParameterType(_ParamType):
    """Text as a value of one parameter's type."""

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        self.name = metavar_of(hint)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, or tell the user what was expected."""
        if not isinstance(value, str):
            return value
        try:
            return value_of(value, self.hint)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ParameterOption(click.Option):
    """The option of one parameter of the user's function."""

    parameter: str = ""


def options_for(function: Callable[..., Any], *, taken: Collection[str] = ()) -> list[ParameterOption]:
    """Return an option for each parameter that can be given as text, in the order of the signature.

    A parameter whose name is one of the *taken* options (``--target``) is called ``--param-target``. One that cannot be
    given as text is left out when it has a default.

    Raises:
        click.UsageError: one that cannot be given as text has no default.
    """
    hints = hints_of(function)
    said = arguments_of(inspect.getdoc(function))
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        hint = hints.get(parameter.name, _hint_of_default(parameter.default))
        if can_be_text(hint):
            found.append(_option(parameter, hint, said.get(parameter.name, ""), taken))
        elif parameter.default is parameter.empty:
            raise click.UsageError(
                f"parameter {parameter.name!r} is a {show(hint)}, which cannot be given on a command line; "
                "give it a default, or run the pipeline from Python"
            )
    return found


def arguments_given(ctx: click.Context) -> dict[str, Any]:
    """Return the parameters that stand on the command line, by name; the others keep the function's defaults."""
    return {
        option.parameter: ctx.params[option.name]
        for option in ctx.command.params
        if isinstance(option, ParameterOption)
        and option.name is not None
        and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }


def _hint_of_default(default: Any) -> Any:
    """Without an annotation the default tells the type."""
    if isinstance(default, (bool, int, float, str)):
        return type(default)
    return Any


def _option(parameter: inspect.Parameter, hint: Any, said: str, taken: Collection[str]) -> ParameterOption:
    name = parameter.name.strip("_").replace("_", "-").lower() or parameter.name
    if name in taken:
        name = f"param-{name}"
    required = parameter.default is parameter.empty
    settings: dict[str, Any] = {"required": required, "help": _help(said, parameter.default, hint)}
    declared = f"--{name}"
    if without_none(hint) is bool and not may_be_none(hint):
        declared = f"--{name}/--no-{name}"
        settings["is_flag"] = True
    elif sequence_of(hint) is not None:
        settings |= {"multiple": True, "metavar": metavar_of(hint), "callback": _collected(hint)}
    else:
        settings["type"] = ParameterType(hint)
        settings["metavar"] = metavar_of(hint)
    option = ParameterOption([PREFIX + parameter.name, declared], **settings)
    option.parameter = parameter.name
    return option


def _collected(hint: Any) -> Callable[[click.Context, click.Parameter, Sequence[str]], Any]:
    def collect(ctx: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> Any:
        if parameter.name is None or ctx.get_parameter_source(parameter.name) is not ParameterSource.COMMANDLINE:
            return ()
        try:
            if may_be_none(hint) and [text.lower() for text in texts] == ["none"]:
                return None
            return items_of(texts, hint)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, parameter) from None

    return collect


def _help(said: str, default: Any, hint: Any) -> str:
    pieces = [said] if said else []
    if sequence_of(hint) is not None:
        pieces.append("Separate values by commas, or repeat the option.")
    if default is inspect.Parameter.empty:
        return "  ".join(pieces)
    return "  ".join([*pieces, f"[default: {text_of(default)}]"])
