"""Tokens in words: what they are called, and why a step gets none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlflow_pipes.model.tokens import Amounts, TokensShort
from mlflow_pipes.scheduling.resources import text

SHARED = "target:"
"""Begins the names of tokens that stand for what runs share of a target."""

_SHARED_NAME = re.compile(re.escape(SHARED) + r"(?P<target>.+?)(?:@(?P<host>\S+))?(?: (?P<resource>memory|gpus))?")
_NAMED = 3
_WAITS = "waits for "


def shared_name(target: str, host: str = "") -> str:
    """Return what stands for a shared target; where every machine has one of that name, for that of *host*."""
    return f"{SHARED}{target}@{host}" if host else f"{SHARED}{target}"


def shared_token(name: str, resource: str) -> str:
    """Return the token that stands for a resource of a shared target, whose cpus bear its name."""
    return name if resource == "cpus" else f"{name} {resource}"


def token_text(token: str, amount: float) -> str:
    """Return so many of a token in words.

    >>> token_text("database", 2)
    "2 of token 'database'"
    >>> token_text(shared_token(shared_name("local", "ada"), "cpus"), 2)
    "2 cpus of the shared target 'local' on ada"
    """
    found = _SHARED_NAME.fullmatch(token)
    if found is None:
        return f"{amount:g} of token {token!r}"
    where = f" on {found['host']}" if found["host"] else ""
    return f"{text(found['resource'] or 'cpus', amount)} of the shared target {found['target']!r}{where}"


def amounts_text(amounts: Amounts) -> str:
    """Return amounts of tokens in words."""
    return " and ".join(token_text(token, amount) for token, amount in sorted(amounts.items()))


def shortage(short: TokensShort, run_id: str) -> str:
    """Return why a step of run *run_id* was given no tokens.

    >>> shortage(TokensShort("load", "database", 1, 4, held_by=(("ab12cd34ef", 3.0), ("me", 1.0))), "me")
    "waits for 1 of token 'database': 4 of 4 are taken, by run ab12cd34 (3) and this run (1)"
    """
    reasons = []
    if short.held_by:
        taken = sum(amount for _, amount in short.held_by)
        reasons.append(f"{taken:,g} of {short.limit:,g} are taken, by {_runs(short.held_by, run_id)}")
    if short.before:
        goes = "goes" if len(short.before) == 1 else "go"
        reasons.append(f"{_runs(short.before, run_id)} {goes} first")
    return f"{_WAITS}{token_text(short.token, short.amount)}: {'; '.join(reasons)}"


def told_short(reason: str) -> str:
    """Return what a step waits for whose :func:`shortage` was recorded as its reason; empty for other reasons.

    >>> told_short("waits for 1 of token 'database': run ab12cd34 goes first"), told_short("attempt 1 failed")
    ("1 of token 'database': run ab12cd34 goes first", '')
    """
    return reason.removeprefix(_WAITS) if reason.startswith(_WAITS) else ""


def _runs(amounts: Sequence[tuple[str, float]], me: str) -> str:
    several = len(amounts) > 1
    names = ["this run" if run_id == me else f"run {run_id[:8]}" for run_id, _ in amounts]
    told = [f"{name} ({amount:,g})" if several else name for name, (_, amount) in zip(names, amounts, strict=True)]
    if len(told) > _NAMED:
        told[_NAMED:] = [f"{len(told) - _NAMED:,} more"]
    return " and ".join([", ".join(told[:-1]), told[-1]] if several else told)
