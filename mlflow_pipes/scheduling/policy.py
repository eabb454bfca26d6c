"""Policies as pure functions: which ready step goes first, and how long to wait before another try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mlflow_pipes.model.attempt import Failure, FailureKind
from mlflow_pipes.model.step import RetryPolicy

RETRIED_KINDS = frozenset({FailureKind.EXCEPTION, FailureKind.LOST, FailureKind.TIMEOUT, FailureKind.WORLD})
"""Kinds of failure that another try may mend. A lost input is mended by running its producer again."""


def critical_path_s(
    order: Sequence[str], children: Mapping[str, Sequence[str]], estimates: Mapping[str, float], default_s: float
) -> dict[str, float]:
    """Return for each node the length in seconds of the longest way from its start to the end of the run.

    Args:
        order: node ids, parents before children.
        children: ids of direct successors.
        estimates: expected duration in seconds by node id.
        default_s: expected duration of nodes without an estimate.

    Cost: O(nodes + edges).
    """
    longest: dict[str, float] = {}
    for node in reversed(order):
        below = max((longest[child] for child in children.get(node, ())), default=0.0)
        longest[node] = estimates.get(node, default_s) + below
    return longest


def is_worth_retrying(policy: RetryPolicy, failures: int, failure: Failure) -> bool:
    """Tell whether a step that failed *failures* times, lastly by *failure*, gets another attempt."""
    if failures > policy.count or failure.kind not in RETRIED_KINDS:
        return False
    if failure.kind is not FailureKind.EXCEPTION:
        return True
    if policy.on and not set(policy.on) & _names(failure.exception):
        return False
    return policy.when is None or bool(failure.worth_retrying)


def _names(exception: Iterable[str]) -> set[str]:
    """Return the full and the bare class names of an exception's MRO."""
    full = set(exception)
    return full | {name.rpartition(".")[2] for name in full}


def retry_delay_s(policy: RetryPolicy, failures: int, chance: float) -> float:
    """Return the wait in seconds before the next attempt: exponential backoff with jitter.

    Args:
        policy: the step's.
        failures: attempts that failed so far, from 1.
        chance: a number in [0, 1) from the run's random source.

    >>> retry_delay_s(RetryPolicy(count=3, delay_s=2.0, jitter=0.0), failures=3, chance=0.5)
    8.0
    """
    delay = min(policy.delay_s * 2.0 ** min(failures - 1, 60), policy.max_delay_s)
    return float(delay * (1.0 + policy.jitter * (2.0 * chance - 1.0)))


def run_default_estimate_s(estimates: Mapping[str, float]) -> float:
    """Return what to expect of a node never seen: the mean of those seen, or a second when none was."""
    return sum(estimates.values()) / len(estimates) if estimates else 1.0
