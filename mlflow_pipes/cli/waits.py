"""For what a step waited, in words and for scripts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.display.words import duration, short_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_pipes.workspace import StepRun
    from mlflow_pipes.workspace.waiting import Wait

_NAMED = 3


def wait_text(wait: Wait, step: StepRun, now: float) -> str:
    """Return a wait as a line: how long, and for what."""
    still = wait.until is None
    return f"{duration(wait.seconds(now))}{' so far' if still else ''} for {_what(wait, step, still=still)}"


def _what(wait: Wait, step: StepRun, *, still: bool) -> str:
    names = listed(wait.on)
    match wait.kind:
        case "inputs":
            told = f"{_verb(wait, 'has', 'have')} not ended" if still else "came last"
            return f"its inputs: {names} {told}"
        case "room":
            return _room(wait, step, names, still=still)
        case "tokens":
            return names
        case "retry":
            return f"the next attempt: {step.reason}" if still and step.reason else "the next attempt"
        case "key":
            return _holders(wait, step)
        case "target":
            return f"{step.target or 'its target'} to begin: no other step was in the way"


def _room(wait: Wait, step: StepRun, names: str, *, still: bool) -> str:
    where = f"room on {step.target}" if step.target else "room on its target"
    if not still:
        return f"{where}, until {names} ended"
    return f"{where}: {names} {_verb(wait, 'is', 'are')} running there" if names else where


def _verb(wait: Wait, of_one: str, of_several: str) -> str:
    return of_one if len(wait.on) == 1 else of_several


def _holders(wait: Wait, step: StepRun) -> str:
    if not wait.on:
        return "its look-up: another step or run is computing the same"
    whose = ["another step of this run" if run_id == step.run_id else f"run {short_id(run_id)}" for run_id in wait.on]
    doing = "is computing" if wait.until is None else "was computing"
    return f"{listed(whose)}, which {'' if wait.certain else 'probably '}{doing} the same"


def listed(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d"])
    ('a, b', 'a, b, c and 1 more')
    """
    shown = ", ".join(names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def wait_record(wait: Wait, now: float) -> dict[str, Any]:
    """Return a wait as JSON-like data."""
    return {
        "for": wait.kind,
        "seconds": wait.seconds(now),
        "over": wait.until is not None,
        "on": list(wait.on),
        "certain": wait.certain,
    }
