"""Exit hooks: steps that run once, when everything else of a run has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeAlias

from mlflow_pipes.authoring.binding import Bound
from mlflow_pipes.authoring.declaration import Call, Declaration
from mlflow_pipes.authoring.step import Step
from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.model.graph import HookTime, Outcome

Hooks: TypeAlias = Step[..., Any] | Iterable[Step[..., Any]]


def checked_hooks(value: Any, what: str) -> tuple[Step[..., Any], ...]:
    """Return a pipeline's hooks of one kind.

    Raises:
        DeclarationError: one is not a step, or needs more arguments than there are for it.
    """
    hooks = (value,) if isinstance(value, Step) else tuple(value) if isinstance(value, (list, tuple)) else None
    if hooks is None or not all(isinstance(hook, Step) for hook in hooks):
        raise DeclarationError(f"{what} is neither a step nor a list of steps; put @step on its function")
    for hook in hooks:
        if len(hook.parameters.required) > 1:
            names = ", ".join(sorted(hook.parameters.required))
            raise DeclarationError(
                f"{what}: step {hook.name!r} needs {names}, but an exit hook is given one argument at most, the "
                "RunOutcome; give the others defaults"
            )
    return hooks


def hook_call(hook: Step[..., Any], time: HookTime, declaration: Declaration, target: str | None) -> Call:
    """Return the call of a hook. It is told how the run went if it takes an argument; its result is never reused.

    *target* is the pipeline's.
    """
    effect = hook.options(reuse="never", max_age_s=None)
    takes = [*hook.parameters.required, *hook.parameters.names][:1]
    bound: dict[str, Bound] = {name: Outcome() for name in takes}
    options = dataclasses.replace(effect.settings.options, pipeline_target=target)
    return Call(effect, bound, options, (), declaration, None, hook=time)
