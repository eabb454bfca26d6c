"""The target that runs attempts on another machine, which is reached by ssh and needs no more than a Python."""

from __future__ import annotations

from mlflow_pipes.targets.ssh.target import SshTarget

__all__ = ["SshTarget"]
