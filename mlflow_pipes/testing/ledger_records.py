"""Records of runs, steps and cache entries for tests of ledgers: ids, keys and values made of short names."""

from __future__ import annotations

import json
from typing import Any, Protocol

from mlflow_pipes.digests import digest_bytes, digest_record
from mlflow_pipes.model.artifact import Artifact, Leaf
from mlflow_pipes.model.run import OutputCached, RunStarted, Status, StepChanged, StepDeclared
from mlflow_pipes.ports import Ledger, Outbox

T0 = 1_700_000_000.0
# No claim lives longer than this without a heartbeat.
LONG_AFTER_S = 3600.0


class LedgerAndOutbox(Ledger, Outbox, Protocol):
    """A ledger that is its own outbox."""


def hex_id(name: str) -> str:
    """Return 32 hexadecimal digits that stand for *name*."""
    return digest_record("pipes.test-id/1", (name,))[:32]


def key_of(name: str) -> str:
    """Return an action key that stands for *name*."""
    return digest_record("pipes.test-key/1", (name,))


def value(text: str) -> Artifact:
    """Return an artifact that carries *text* inline, as JSON."""
    content = json.dumps(text).encode()
    return Leaf("json", digest_bytes(content), inline=content)


def started(run: str, **changes: Any) -> RunStarted:
    """Return the start of a run, on a host that is not this one."""
    fields = {"pipeline": "flights", "experiment": "flights", "started_at": T0, "host": "elsewhere", "process": "1:1"}
    return RunStarted(run_id=hex_id(run), **{**fields, **changes})


def declared(run: str, node: str, **changes: Any) -> StepDeclared:
    """Return the declaration of a step."""
    fields = {"name": node.partition("[")[0], "kind": "step", "parent_id": hex_id(run)}
    return StepDeclared(hex_id(run), hex_id(f"{run}/{node}"), node, **{**fields, **changes})


def changed(run: str, node: str, status: Status, at: float = T0, **changes: Any) -> StepChanged:
    """Return a step's new status."""
    return StepChanged(hex_id(run), hex_id(f"{run}/{node}"), status, at, **changes)


def cached(name: str, text: str, token: int = 0, **changes: Any) -> OutputCached:
    """Return a new cache entry."""
    fields = {"pipeline": "flights", "node": name, "made_at": T0, "duration_s": 2.0}
    return OutputCached(key_of(name), value(text), hex_id(f"step {name}"), token=token, **{**fields, **changes})


def ended_attempt(run: str, node: str) -> tuple[Any, ...]:
    """Return the fields of a first attempt that took two seconds."""
    return (hex_id(run), hex_id(f"{run}/{node}"), 1, T0, T0 + 2, "local", "w1", "h1")
