"""Why a step ran again: the leaves of its code and the arguments that differ from another run; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_pipes.model.step import CodeLeaf


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a step's action key was made of.

    Attributes:
        code_digest: of the whole code fingerprint.
        code: its leaves, where the ledger knows them.
        inputs: identity of each argument by name.
    """

    code_digest: str = ""
    code: tuple[CodeLeaf, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One ingredient that differs.

    Attributes:
        kind: of a code leaf (``function``, ``constant`` ...), or ``input``.
        name: of the leaf or the argument.
        via: the way by which the step's code reaches the leaf, the step's function first; empty for inputs.
        before, after: digests; "" where it was not there.
    """

    kind: str
    name: str
    via: tuple[str, ...]
    before: str
    after: str

    @property
    def what(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if not self.before:
            return "added"
        return "changed" if self.after else "removed"


def compare(before: Ingredients, after: Ingredients) -> list[Change]:
    """Return what differs: code first, what the step reaches on the shortest way first, then inputs by name.

    Code whose leaves are not known on one side but whose digest differs gives one change of kind ``code``.
    """
    changes: list[Change] = []
    if before.code_digest != after.code_digest or not before.code_digest:
        changes += _code_changes(before, after)
    for name in sorted(before.inputs.keys() | after.inputs.keys()):
        was, is_ = before.inputs.get(name, ""), after.inputs.get(name, "")
        if was != is_:
            changes.append(Change("input", name, (), was, is_))
    return changes


def _code_changes(before: Ingredients, after: Ingredients) -> list[Change]:
    if not (before.code and after.code):
        if before.code_digest == after.code_digest:
            return []
        return [Change("code", "code", (), before.code_digest, after.code_digest)]
    was = {(leaf.kind, leaf.name): leaf for leaf in before.code}
    is_ = {(leaf.kind, leaf.name): leaf for leaf in after.code}
    changes = []
    for kind, name in sorted(was.keys() | is_.keys()):
        old, new = was.get((kind, name)), is_.get((kind, name))
        if old is not None and new is not None and old.digest == new.digest:
            continue
        seen = new or old
        assert seen is not None
        changes.append(Change(kind, name, seen.via, old.digest if old else "", new.digest if new else ""))
    changes.sort(key=lambda change: (len(change.via), change.kind, change.name))
    return changes


def changes_text(changes: tuple[Change, ...]) -> str:
    """Return one line for people: what changed, the most telling first; empty for no changes.

    >>> changes_text((Change("function", "features.parse_time", ("features", "features.parse_time"), "a", "b"),))
    'function features.parse_time changed'
    """
    if not changes:
        return ""
    told = "; ".join(f"{change.kind} {change.name} {change.what}" for change in changes[:3])
    return told + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")
