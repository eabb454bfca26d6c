"""Code of a step's own modules goes along with what it sends to a cluster; other pickles name it as ever."""

import importlib
import pickle
import sys

import cloudpickle
import pytest

from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.testing.target_driver import assignment_of, imported
from mlflow_pipes.worker.clusters import by_value, own_modules


@pytest.fixture
def step(tmp_path, monkeypatch):
    file = tmp_path / "module_of_a_step.py"
    file.write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("module_of_a_step")
    yield module, assignment_of(imported(file, "double"), MemoryDatastore(), {"x": 1})
    sys.modules.pop("module_of_a_step", None)


def test_only_the_modules_of_the_step_go_along(step):
    module, assignment = step
    assert own_modules(assignment) == [module]


def test_what_is_sent_needs_no_module_there_and_what_is_kept_is_as_before(step, monkeypatch):
    module, assignment = step
    named = cloudpickle.dumps(module.double)
    with by_value(assignment, cloudpickle):
        sent = cloudpickle.dumps(module.double)
    assert cloudpickle.dumps(module.double) == named
    monkeypatch.delitem(sys.modules, "module_of_a_step")
    monkeypatch.setattr(sys, "path", [])
    assert pickle.loads(sent)(4) == 8
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(named)
