"""The action key: what a step's result depends on, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_pipes.digests import digest_record


def action_key(code: str, inputs: Mapping[str, str]) -> str:
    """Return the key (64 hex digits) of doing a step of code digest *code* with *inputs*.

    Args:
        code: digest of the step's code fingerprint; it covers interpreter and third-party versions.
        inputs: identity of each argument's artifact, by parameter name. Order does not matter; a default that
            was not given is part of the code.

    >>> action_key("c", {"a": "1", "b": "2"}) == action_key("c", {"b": "2", "a": "1"})
    True
    """
    return digest_record("pipes.action/1", (code, tuple(sorted(inputs.items()))))
