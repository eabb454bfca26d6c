"""What a run leaves for another that resumes it, and what that one takes over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeAlias

from mlflow_pipes.model.attempt import FailureKind
from mlflow_pipes.quick_dataclasses import dataclass

if TYPE_CHECKING:
    from mlflow_pipes.model.artifact import Artifact

UNKNOWN_EFFECT = "unknown: it may have happened; it was running when its orchestrator died"
"""Said of an effect whose end nobody was left to hear of."""

NodeAndKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StoredCall:
    """How a pipeline call (or a step call) can be declared again in another process.

    Attributes:
        file: source file that declares the pipeline. name: of the pipeline in it.
        folder: working folder of the process that made the call: relative paths are meant from there.
        options: what the call had changed of the pipeline's options.
        given: what ``run`` was given besides the call: target, experiment, tags, fail_fast.
        arguments: by name, pickled.
        problem: why it cannot be declared again, with the remedy; empty when it can. Then the rest counts.
    """

    file: str = ""
    name: str = ""
    folder: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    arguments: bytes = b""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class EffectDone:
    """An effect that happened: an attempt at a step with ``reuse="never"`` that succeeded.

    Attributes:
        output: what the attempt returned; calls of further steps stay calls.
    """

    run_id: str
    step_run_id: str
    output: Artifact


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a run takes over from those that it resumes. Two equal calls are two effects: nodes count, not keys alone.

    Attributes:
        run_id: of the run that is resumed.
        first_run_id: of the first in the line of runs that resumed each other: effects are known by it everywhere.
        done: effects that happened.
        unknown: effects that were begun and did not end by themselves, with their run's id: they may have happened.
    """

    run_id: str
    first_run_id: str
    done: Mapping[NodeAndKey, EffectDone] = field(default_factory=dict)
    unknown: Mapping[NodeAndKey, str] = field(default_factory=dict)


_BY_ITSELF = frozenset({FailureKind.EXCEPTION, FailureKind.INPUT, FailureKind.SOURCE_CHANGED})
"""The step's own code told of it, or was never called. After failures of other kinds it may have done its work."""


def may_have_happened(begun: int, ends: Iterable[FailureKind | None]) -> bool:
    """Tell whether an effect may have happened though no attempt at it succeeded.

    Args:
        begun: number of attempts that were begun.
        ends: how those ended of whose end was heard; None for a success.

    >>> may_have_happened(1, [])
    True
    >>> may_have_happened(2, [FailureKind.EXCEPTION, FailureKind.EXCEPTION])
    False
    """
    heard = list(ends)
    return None not in heard and (begun > len(heard) or not _BY_ITSELF.issuperset(heard))
