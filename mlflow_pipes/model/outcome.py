"""What steps are told about other steps that ended badly, and about the run when it is over."""

from __future__ import annotations

from mlflow_pipes.quick_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Stands for an output that could not be made, for a step that accepts failures (``allow_failure``).

    Attributes:
        step: id of the step in its run, such as ``train[max_depth=8]``.
        status: ``failed`` or ``skipped``.
        message: one line: why.
        kind: whose fault: ``exception``, ``timeout``, ``lost`` ...; empty for a skipped step.
        exception: qualified names of the exception's classes, most special first; empty when there was none.
    """

    step: str
    status: str
    message: str
    kind: str = ""
    exception: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"step {self.step!r} {self.status}: {self.message}"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run went, for its exit hooks (``on_success``, ``on_failure``, ``always``).

    Attributes:
        run_id: of the run.
        pipeline: its name.
        status: ``succeeded``, ``failed`` or ``cancelled``.
        message: one line: why it did not succeed; empty when it did.
        failures: the steps that failed, in the order in which they did.
    """

    run_id: str
    pipeline: str
    status: str
    message: str = ""
    failures: tuple[StepFailure, ...] = ()
