"""The inline target keeps the contract, and what is its own."""

import pytest

from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.targets.inline import InlineTarget
from mlflow_pipes.testing.target_contract import TargetContract


class TestInlineTarget(TargetContract):
    kills = False

    @pytest.fixture
    def datastore(self):
        return MemoryDatastore()

    def make_target(self, datastore, folder):
        return InlineTarget("inline", datastore, checkout=folder / "checkout", scratch=folder / "scratch")
