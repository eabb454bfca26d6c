"""The action key: what a step's result depends on, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mlflow_pipes.digests import digest_record
from mlflow_pipes.model.environment import ResolvedEnvironment
from mlflow_pipes.model.step import CodeFingerprint, CodeLeaf

_OUR_OWN = "mlflow-pipes"  # comes along into every environment, from the machine that declares the pipeline


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


def code_in(environment: ResolvedEnvironment, code: CodeFingerprint) -> CodeFingerprint:
    """Return a step's code as it is in an environment: without the versions here, with all that counts there.

    Of requirements, conda and containers that is everything in them, of an interpreter the versions of what the code
    reaches (docs/adr/0016-environments-in-the-key.md).
    """
    reached = {name: environment.version_of(name) or "" for name in sorted(code.distributions)}
    ours = next((leaf.digest for leaf in code.leaves if leaf.name == _OUR_OWN), "")
    if _OUR_OWN in reached:
        reached[_OUR_OWN] = ours
    if environment.kind == "interpreter":
        whole: tuple[object, ...] = ("interpreter", environment.python, tuple(reached.items()))
    else:
        whole = (environment.kind, environment.digest, ours)
    digest = digest_record("pipes.code-in-environment/1", (code.shape or code.digest, whole))  # type: ignore[arg-type]
    leaves = [_leaf_in(environment, leaf, reached) for leaf in code.leaves]
    if environment.kind != "interpreter":
        leaves.append(CodeLeaf("environment", "packages", _told(environment)))
    return replace(code, digest=digest, leaves=tuple(sorted(leaves, key=lambda leaf: (leaf.kind, leaf.name))))


def _leaf_in(environment: ResolvedEnvironment, leaf: CodeLeaf, reached: Mapping[str, str]) -> CodeLeaf:
    if leaf.kind == "python":
        return replace(leaf, digest=environment.python)
    return replace(leaf, digest=reached[leaf.name]) if leaf.kind == "distribution" else leaf


def _told(environment: ResolvedEnvironment) -> str:
    """Return what is in an environment, for people: ``python==3.11 numpy==2.0.1``."""
    packages = sorted(environment.packages.items()) or [("digest", environment.digest)]
    return " ".join(f"{name}=={version}" for name, version in [("python", environment.python), *packages])
