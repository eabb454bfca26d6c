"""What all runs of a workspace share: tokens, and targets that are configured so."""

from __future__ import annotations

from mlflow_pipes.machine.processes import this_host
from mlflow_pipes.scheduling.shortage import shared_name
from mlflow_pipes.scheduling.tokens import Supply
from mlflow_pipes.workspace.configuration import Configuration


def supply_of(configuration: Configuration) -> Supply:
    """Return what runs share by this configuration; a target of type ``local`` with those on this machine only."""
    shared = {
        name: shared_name(name, this_host() if target.type == "local" else "")
        for name, target in configuration.targets.items()
        if target.shared
    }
    return Supply(configuration.tokens, shared)
