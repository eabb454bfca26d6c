"""The options of a step: read, checked, and put into the model's records."""

from __future__ import annotations

import builtins
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypedDict

from mlflow_pipes.errors import ArgumentError, DeclarationError, suggest
from mlflow_pipes.model.environment import Environment
from mlflow_pipes.model.step import RetryPolicy, ReuseMode, StepOptions
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.wording import bytes_in

Errors: TypeAlias = type[BaseException] | Iterable[type[BaseException]]
Tokens: TypeAlias = str | Mapping[str, float]


class CallOptions(TypedDict, total=False):
    """What ``step.options(...)`` can change for the calls made through it; see :func:`step` for the meanings."""

    name: str
    target: str | None
    cpus: float
    memory: str | int
    gpus: int
    tokens: Tokens
    timeout_s: float | None
    total_timeout_s: float | None
    max_parallel: int | None
    max_depth: int
    optional: bool
    retries: int | RetryPolicy
    retry_on: Errors
    retry_if: Callable[[BaseException], bool]
    reuse: ReuseMode
    max_age_s: float | None
    priority: int
    tags: Mapping[str, str]
    environment: str | Environment | None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is said about a step besides its function."""

    name: str
    options: StepOptions = StepOptions()
    reuse: ReuseMode = "content"
    max_age_s: float | None = None
    version: str | None = None
    replace_code: bool = False
    uses: tuple[Any, ...] = ()


def changed(settings: Settings, changes: Mapping[str, Any], culprit: str) -> Settings:
    """Return the settings with a call's (or the decorator's) options put in.

    Raises:
        DeclarationError: an option is unknown or has an impossible value; names it, and what is possible.
    """
    known = {*CallOptions.__annotations__, "version", "replace_code", "uses"}
    for option in changes:
        if option not in known:
            near = suggest(option, known) or f"; there are {', '.join(sorted(known))}"
            raise ArgumentError(f"{culprit} has no option {option!r}{near}")
    top: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for option, value in changes.items():
        match option:
            case "memory":
                inner["memory_bytes"] = bytes_of(value, culprit)
            case "tokens":
                inner["tokens"] = _tokens(value, culprit)
            case "retries" | "retry_on" | "retry_if":
                continue
            case "tags":
                inner["tags"] = {**settings.options.tags, **checked_tags(value, culprit)}
            case _ if option in _CHECKS:
                inner[option] = _CHECKS[option](value, f"{culprit}: {option}={value!r}")
            case "uses":
                top["uses"] = tuple(value) if isinstance(value, (list, tuple, set)) else (value,)
            case _:
                top[option] = value
    if changes.keys() & {"retries", "retry_on", "retry_if"}:
        inner["retries"] = _retries(settings.options.retries, changes, culprit)
    if inner:
        top["options"] = dataclasses.replace(settings.options, **inner)
    result = dataclasses.replace(settings, **top)
    _check_reuse(result, culprit)
    return result


def _check_reuse(settings: Settings, culprit: str) -> None:
    if settings.reuse not in {"content", "never"}:
        raise DeclarationError(f'{culprit}: reuse={settings.reuse!r} is not known; write "content" or "never"')
    if settings.max_age_s is not None:
        positive(settings.max_age_s, f"{culprit}: max_age_s={settings.max_age_s!r}")
        if settings.reuse == "never":
            raise DeclarationError(f'{culprit}: max_age_s says when to reuse, reuse="never" not to; remove one of them')
    if settings.version is not None and not isinstance(settings.version, str):
        raise DeclarationError(
            f'{culprit}: version={settings.version!r} is not a text; write version="{settings.version}"'
        )
    if settings.replace_code and settings.version is None:
        raise DeclarationError(f'{culprit}: replace_code=True needs what stands for the code; add version="1"')


def positive(value: Any, what: str) -> Any:
    """Return a number above 0, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
        raise DeclarationError(f"{what} is not a number above 0")
    return value


def _cpus(value: Any, what: str) -> Any:
    if value is None:
        raise DeclarationError(f"{what} is not a number above 0; leave it out for one core")
    return positive(value, what)


def checked_target(value: Any, what: str) -> Any:
    """Return the name of a compute target, or None."""
    if value is not None and not (isinstance(value, str) and value):
        raise DeclarationError(f'{what} is not the name of a compute target, such as "local"')
    return value


def checked_environment(value: Any, what: str) -> Any:
    """Return the name of an environment, a declared one, or None."""
    if value is None or isinstance(value, Environment) or (isinstance(value, str) and value):
        return value
    raise DeclarationError(
        f'{what} is neither a name from the configuration nor an Environment; write environment="training", or '
        'Environment(requirements=["numpy==2.0"])'
    )


def _gpus(value: Any, what: str) -> Any:
    if type(value) is not int or value < 0:
        raise DeclarationError(f"{what} is not a whole number from 0 upwards")
    return value


def _tokens(value: Any, culprit: str) -> dict[str, float]:
    """Return how many of each token a step holds while it runs."""
    amounts = {value: 1} if isinstance(value, str) else value
    if not isinstance(amounts, Mapping) or not all(isinstance(token, str) and token for token in amounts):
        raise DeclarationError(
            f'{culprit}: tokens={value!r} is not the name of a token, nor a dict; write tokens={{"database": 1}}'
        )
    for token, amount in amounts.items():
        positive(math.nan if amount is None else amount, f"{culprit}: tokens={value!r}: {amount!r} of {token!r}")
    return dict(amounts)


def checked_priority(value: Any, what: str) -> Any:
    """Return a whole number; larger goes first."""
    if type(value) is not int:
        raise DeclarationError(f"{what} is not a whole number (larger goes first)")
    return value


def whole(value: Any, what: str) -> Any:
    """Return a whole number above 0, or None."""
    if value is not None and (type(value) is not int or value < 1):
        raise DeclarationError(f"{what} is not a whole number above 0")
    return value


def _max_depth(value: Any, what: str) -> Any:
    if value is None:
        raise DeclarationError(f"{what} is not a whole number above 0; leave it out for 1,000")
    return whole(value, what)


def _flag(value: Any, what: str) -> Any:
    if not isinstance(value, bool):
        raise DeclarationError(f"{what} is neither True nor False")
    return value


_CHECKS = {
    "cpus": _cpus,
    "timeout_s": positive,
    "total_timeout_s": positive,
    "max_parallel": whole,
    "max_depth": _max_depth,
    "optional": _flag,
    "target": checked_target,
    "priority": checked_priority,
    "gpus": _gpus,
    "environment": checked_environment,
}


def checked_tags(value: Any, culprit: str) -> dict[str, str]:
    """Return free labels as a dict of texts."""
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise DeclarationError(f'{culprit}: tags={value!r} is not a dict of texts; write tags={{"team": "delays"}}')
    return dict(value)


def bytes_of(value: Any, culprit: str = "memory") -> int:
    """Return a memory size in bytes: a number of them, or a text with a unit.

    >>> bytes_of("2GB"), bytes_of("512 MiB"), bytes_of("1.5g"), bytes_of(1024)
    (2000000000, 536870912, 1500000000, 1024)
    """
    if type(value) is int and value >= 0:
        return value
    size = bytes_in(value) if isinstance(value, str) else None
    if size is None:
        raise DeclarationError(
            f'{culprit}: memory={value!r} is not a size; write "2GB", "512 MiB" or a number of bytes'
        )
    return size


def _retries(policy: RetryPolicy, changes: Mapping[str, Any], culprit: str) -> RetryPolicy:
    retries = changes.get("retries", policy)
    if type(retries) is int and retries >= 0:
        policy = dataclasses.replace(policy, count=retries)
    elif isinstance(retries, RetryPolicy):
        policy = retries
    else:
        raise DeclarationError(f"{culprit}: retries={retries!r} is not a number from 0 upwards, nor a RetryPolicy")
    if "retry_on" in changes:
        policy = dataclasses.replace(policy, on=_error_names(changes["retry_on"], culprit))
        if not policy.count:
            raise DeclarationError(
                f"{culprit}: retry_on says when to try again, but there are no retries; add retries=2"
            )
    if "retry_if" in changes:
        policy = dataclasses.replace(policy, when=changes["retry_if"])
        if not policy.count:
            raise DeclarationError(
                f"{culprit}: retry_if says when to try again, but there are no retries; add retries=2"
            )
    if policy.when is not None and not callable(policy.when):
        raise DeclarationError(
            f"{culprit}: retry_if={policy.when!r} is not a function; give one that takes the exception and returns "
            "whether another try is worth it"
        )
    return policy


def _error_names(errors: Any, culprit: str) -> tuple[str, ...]:
    classes = (errors,) if isinstance(errors, type) else errors
    try:
        return tuple([name for cls in classes for name in _error_names_of(cls, culprit)])
    except TypeError:
        raise DeclarationError(f"{culprit}: retry_on={errors!r} is not one or more exception classes") from None


def _error_names_of(cls: type[BaseException], culprit: str) -> list[str]:
    if not isinstance(cls, type) or not issubclass(cls, BaseException):
        raise DeclarationError(f"{culprit}: retry_on={cls!r} is not an exception class; write retry_on=(TimeoutError,)")
    if getattr(builtins, cls.__name__, None) is cls:
        return [str(cls.__name__)]
    names = [f"{cls.__module__}.{cls.__qualname__}"]
    if cls.__module__ == "__main__":  # a worker knows the script by the name that it imports it by
        from mlflow_pipes.content.naming import main_module_name

        names.append(f"{main_module_name()}.{cls.__qualname__}")
    return names


def checked_name(name: Any, culprit: str) -> str:
    """Return a name that may stand in a node's id.

    Raises:
        DeclarationError: it is empty, not a text, or has ``/`` or ``#`` in it, which ids use themselves.
    """
    if not isinstance(name, str) or not name.strip():
        raise DeclarationError(f"{culprit}: name={name!r} is not a name")
    if "/" in name or "#" in name or not name.isprintable():
        raise DeclarationError(
            f"{culprit}: name={name!r} has '/', '#' or a control character in it; use letters and '-'"
        )
    return name
