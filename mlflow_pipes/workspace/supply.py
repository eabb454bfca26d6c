"""What all runs of a workspace share: tokens, and targets that are configured so."""

from __future__ import annotations

from mlflow_pipes.machine.processes import this_host
from mlflow_pipes.scheduling.shortage import shared_name
from mlflow_pipes.scheduling.tokens import Supply
from mlflow_pipes.workspace.configuration import Configuration
from mlflow_pipes.workspace.target_configuration import TargetConfiguration
from mlflow_pipes.workspace.target_types import TARGET_TYPES


def supply_of(configuration: Configuration) -> Supply:
    """Return what runs share by this configuration; some targets with those on this machine only."""
    shared = {
        name: shared_name(name, this_host() if _is_per_machine(target) else "")
        for name, target in configuration.targets.items()
        if target.shared
    }
    return Supply(configuration.tokens, shared)


def _is_per_machine(target: TargetConfiguration) -> bool:
    return target.type in TARGET_TYPES and TARGET_TYPES[target.type].per_machine
