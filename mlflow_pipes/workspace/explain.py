"""Why a step ran again: the leaves of its code and the arguments that differ from another run; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from mlflow_pipes.model.step import CodeLeaf
from mlflow_pipes.quick_dataclasses import dataclass


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
        kind: of a code leaf (``function``, ``constant`` ...), or ``input``. Of an environment that changed, each
            package that did is a change of kind ``environment``.
        name: of the leaf or the argument.
        via: the way by which the step's code reaches the leaf, the step's function first; empty for inputs.
        before, after: digests, of distributions, packages and Python the versions; "" where it was not there.
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

    @property
    def versions(self) -> str:
        """From which version to which, where it is something that has versions; else empty."""
        if self.kind not in _VERSIONED or self.name == _WHOLE:
            return ""
        return f"{self.before or '(none)'} → {self.after or '(none)'}"


_VERSIONED = frozenset({"distribution", "environment", "python"})
_WHOLE = "packages"  # the leaf that tells all that is in an environment


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
    changes: list[Change] = []
    for kind, name in sorted(was.keys() | is_.keys()):
        old, new = was.get((kind, name)), is_.get((kind, name))
        if old is not None and new is not None and old.digest == new.digest:
            continue
        seen = new or old
        assert seen is not None
        if kind == "environment" and old is not None and new is not None:
            changes += _package_changes(old, new, before.code, after.code)
            continue
        changes.append(Change(kind, name, seen.via, old.digest if old else "", new.digest if new else ""))
    if any(change.kind == "environment" and change.versions for change in changes):  # that tells of these, too
        changes = [change for change in changes if change.kind not in {"distribution", "python"}]
    changes.sort(key=lambda change: (len(change.via), change.kind, change.name))
    return changes


def _package_changes(old: CodeLeaf, new: CodeLeaf, *codes: Sequence[CodeLeaf]) -> list[Change]:
    """Return a change for each package that differs, with the way by which the code reaches it, where it does."""
    was, is_ = _packages(old), _packages(new)
    ways = {leaf.name: leaf.via for code in codes for leaf in code if leaf.kind == "distribution"}
    names = [name for name in sorted(was.keys() | is_.keys()) if was.get(name) != is_.get(name)]
    return [Change("environment", name, ways.get(name, ()), was.get(name, ""), is_.get(name, "")) for name in names]


def _packages(leaf: CodeLeaf) -> dict[str, str]:
    """Return the versions that a leaf of kind ``environment`` tells."""
    pairs = (package.partition("==") for package in leaf.digest.split())
    return {name: version for name, _, version in pairs}


def changes_text(changes: tuple[Change, ...]) -> str:
    """Return one line for people: what changed, the most telling first; empty for no changes.

    >>> changes_text((Change("function", "features.parse_time", ("features", "features.parse_time"), "a", "b"),))
    'function features.parse_time changed'
    >>> changes_text((Change("environment", "numpy", (), "1.26.4", "2.0.1"),))
    'environment changed: numpy 1.26.4 → 2.0.1'
    """
    if not changes:
        return ""
    told = "; ".join(_told(change) for change in changes[:3])
    return told + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")


def _told(change: Change) -> str:
    if change.kind == "environment":
        whole = f"it runs in an environment of its own {'now' if change.after else 'no longer'}"
        return f"environment changed: {change.name} {change.versions}" if change.versions else whole
    versions = f" ({change.versions})" if change.versions else ""
    return f"{change.kind} {change.name} {change.what}{versions}"
