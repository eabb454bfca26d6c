"""What became of each step from one run to another: new, gone, reused, the same, changed, unstable; pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Literal, TypeAlias

from mlflow_pipes.model.run import Status
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.workspace.explain import Change, Ingredients, compare

NOTABLE_S, NOTABLE_SHARE = 0.1, 0.2
"""A duration is worth telling that differs by both: seconds, and share of the longer one."""

Fate: TypeAlias = Literal["new", "gone", "reused", "same", "changed", "unstable", "unknown"]


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What of a step is compared.

    Attributes:
        key: action key, empty where the run did not come so far.
        output: identity of its output, empty where it has none.
        duration_s: of its own work; None when it was reused or has not ended.
        parameters: plain constants among its arguments, as short texts. parents: nodes whose outputs it read.
    """

    node: str
    status: Status
    key: str = ""
    ingredients: Ingredients = Ingredients()
    output: str = ""
    duration_s: float | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepDifference:
    """What became of one step.

    Attributes:
        fate: ``new`` or ``gone``; ``reused``, the second run took a known output; ``same``, it ran on the same code and
            inputs; ``changed``, its code or inputs differ; ``unstable``, they do not, and yet its output does: the step
            is no function of its inputs; ``unknown``, one of the runs did not come so far.
        before, after: its facts; None where it is not in the run.
        changes: what differs in code and inputs, code first.
        came_from: for inputs that changed and are no plain constants, the nodes whose outputs they are, by the
            argument's name; where that cannot be told exactly, all above whose output is new or differs.
        output_changed: whether both have an output, and these differ.
    """

    node: str
    fate: Fate
    before: StepFacts | None
    after: StepFacts | None
    changes: tuple[Change, ...] = ()
    came_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    output_changed: bool = False

    @property
    def status_changed(self) -> bool:
        """Whether it ended well in one of the runs and not in the other."""
        both = self.before is not None and self.after is not None
        return both and self.before.status.good != self.after.status.good  # type: ignore[union-attr]

    @property
    def duration_changed_s(self) -> float | None:
        """By how many seconds longer it took, where it ran in both and that is worth telling."""
        was = self.before.duration_s if self.before else None
        took = self.after.duration_s if self.after else None
        if was is None or took is None:
            return None
        notable = abs(took - was) >= max(NOTABLE_S, NOTABLE_SHARE * max(took, was))
        return took - was if notable else None


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A parameter, metric or fact that differs; None where it is not there."""

    name: str
    before: str | float | None
    after: str | float | None


def step_differences(before: Sequence[StepFacts], after: Sequence[StepFacts]) -> list[StepDifference]:
    """Return what became of each step, in the order of the second run, then those that are gone.

    Cost: O(steps + inputs + leaves of code that differ).
    """
    was = {step.node: step for step in before}
    is_ = {step.node: step for step in after}
    outputs = {step.node: step.output for step in after if step.output}
    other = {node for node, output in outputs.items() if node not in was or was[node].output != output}
    found = [_difference(was.get(step.node), step, outputs, other) for step in after]
    return found + [StepDifference(step.node, "gone", step, None) for step in before if step.node not in is_]


def _difference(
    was: StepFacts | None, is_: StepFacts, outputs: Mapping[str, str], other: Collection[str]
) -> StepDifference:
    if was is None:
        return StepDifference(is_.node, "new", None, is_)
    output_changed = bool(was.output and is_.output and was.output != is_.output)
    if not (was.key and is_.key):
        return StepDifference(is_.node, "unknown", was, is_, output_changed=output_changed)
    if was.key == is_.key:
        fate: Fate = "unstable" if output_changed else "reused" if is_.status is Status.REUSED else "same"
        return StepDifference(is_.node, fate, was, is_, output_changed=output_changed)
    changes = tuple(compare(was.ingredients, is_.ingredients))
    makers = {outputs[parent]: (parent,) for parent in is_.parents if parent in outputs}
    suspects = tuple(parent for parent in is_.parents if parent in other)
    came_from = {
        change.name: makers.get(change.after, suspects)
        for change in changes
        if change.kind == "input" and change.after and change.name not in is_.parameters
    }
    return StepDifference(is_.node, "changed", was, is_, changes, came_from, output_changed)


def value_changes(before: Mapping[str, str | float], after: Mapping[str, str | float]) -> list[ValueChange]:
    """Return what differs between two mappings, by name; a number that is none equals another that is none."""
    names = [*after, *(name for name in before if name not in after)]
    return [
        ValueChange(name, before.get(name), after.get(name))
        for name in names
        if not _equal(before.get(name), after.get(name))
    ]


def environment_changes(differences: Iterable[StepDifference]) -> list[ValueChange]:
    """Return the distributions and the Python whose versions differ, each once (their digest is the version)."""
    found: dict[tuple[str, str, str], ValueChange] = {}
    for difference in differences:
        for change in difference.changes:
            if change.versions:
                value = ValueChange(change.name, change.before or None, change.after or None)
                found.setdefault((change.name, change.before, change.after), value)
    return list(found.values())


def _equal(one: str | float | None, other: str | float | None) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return one == other
