"""The public names and their signatures, as users know them; and what importing them costs.

``python tests/unit/test_public_names.py`` writes the snapshot anew; say in the changelog what changes.
"""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import mlflow_pipes

SNAPSHOT = Path(__file__).with_name("public_names.txt")

IMPORTS = """
import json, sys
def outside():
    files = {name.partition('.')[0]: getattr(module, '__file__', None) or '' for name, module in list(sys.modules.items())}
    return sorted(name for name, file in files.items() if 'site-packages' in file and not name.startswith('_'))
before = outside()
import mlflow_pipes
bare = [name for name in sys.modules if name.startswith('mlflow_pipes.')]
from mlflow_pipes import *
import mlflow_pipes.lifecycle, mlflow_pipes_steps
public = outside()
import mlflow_pipes.targets.local.worker_main
print(json.dumps([before, bare, public, outside()]))
"""


def surface() -> list[str]:
    lines = []
    for name in sorted(mlflow_pipes.__all__):
        value = getattr(mlflow_pipes, name)
        made_by_users = not isinstance(value, type) or value in {
            mlflow_pipes.Environment,
            mlflow_pipes.RetryPolicy,
            mlflow_pipes.SignedModel,
        }
        lines.append(name + (_signature(value) if made_by_users else ""))
        if isinstance(value, type) and not issubclass(value, Exception):
            lines += [f"{name}.{member}" for member in sorted(_members(value))]
    return lines


def _members(cls: type) -> list[str]:
    fields = set(getattr(cls, "__dataclass_fields__", ())) | set(getattr(cls, "__slots__", ()))
    found = {field: "" for field in fields if not field.startswith("_")}
    for name in dir(cls):
        if not name.startswith("_") and name not in found:
            member = inspect.getattr_static(cls, name)
            found[name] = _signature(getattr(cls, name)) if callable(getattr(member, "__func__", member)) else ""
    return [name + text for name, text in found.items()]


def _signature(value: object) -> str:
    try:
        # Addresses and enum values of defaults are no promise.
        return re.sub(r"<([\w.]+)[^>]*>", r"<\1>", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return ""


def test_the_public_names_and_signatures_are_those_of_the_snapshot():
    assert surface() == SNAPSHOT.read_text().splitlines()


def test_importing_costs_no_package_but_the_one_for_hashing():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    before, bare, public, worker = json.loads(done.stdout)
    assert bare == [], "`import mlflow_pipes` alone imports nothing: names are found when used"
    assert set(public) - set(before) == {"blake3"}
    assert set(worker) - set(before) == {"blake3"}, "a worker starts with what the step needs and nothing else"


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(surface()) + "\n")
