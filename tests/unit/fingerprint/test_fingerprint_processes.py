"""Two processes agree: other hash seeds, other folders, a script run as ``__main__`` and the same file imported."""

import os
import pickle
import subprocess
import sys

from mlflow_pipes.fingerprint.code import fingerprint
from mlflow_pipes.fingerprint.reference import reference
from mlflow_pipes.model.step import PickledFunction

FLOW = """
import logging
from pathlib import Path

import helpers

NAMES = {"alpha", "beta", "gamma", "delta", "epsilon"}
HERE = Path(__file__).parent
log = logging.getLogger(__name__)


class Tool:
    kinds = frozenset({"x", "y", "z"})

    def run(self, names):
        return helpers.clean(names) & self.kinds


def train(names: set, tool=Tool):
    log.info("in %s", HERE)
    return tool().run(names | NAMES)


if __name__ == "__main__":
    from mlflow_pipes.fingerprint.code import fingerprint
    from mlflow_pipes.fingerprint.reference import reference

    code = fingerprint(train)
    found = reference(train, code)
    print(code.digest, found.module, found.root == str(HERE), [leaf.name for leaf in code.leaves], sep="\\n")
"""
HELPERS = "TABLE = {name: {name, 1} for name in 'abc'}\n\ndef clean(names):\n    return names - TABLE.keys()\n"
FILES = {"pipes.toml": "", "flow.py": FLOW, "helpers.py": HELPERS}

TYPED = """
import sys
sys.path.insert(0, sys.argv[1])
import helpers
from mlflow_pipes.fingerprint.code import fingerprint
from mlflow_pipes.fingerprint.reference import reference
def double(x): return 2 * len(helpers.clean(x))
code = fingerprint(double)
import flow
sys.stdout.buffer.write(__import__("pickle").dumps((code.digest, reference(double, code), fingerprint(flow.train).digest)))
"""


def run(arguments, seed):
    environ = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_a_script_its_import_other_hash_seeds_and_other_folders_agree(projects):
    with projects.loaded(FILES) as flow:
        code = fingerprint(flow.train)
    script = projects.write(FILES) / "flow.py"
    digest, module, at_root, leaves = run([script], seed=1).decode().splitlines()
    assert (digest, module, at_root) == (code.digest, "flow", "True")
    assert leaves == str([leaf.name for leaf in code.leaves])


def test_a_function_typed_on_the_command_line_travels_by_value_and_agrees(projects):
    folder = str(projects.write(FILES))
    one, other = (pickle.loads(run(["-c", TYPED, folder], seed)) for seed in (2, 3))
    assert one[0] == other[0]
    assert isinstance(one[1], PickledFunction)
    assert one[1].qualname == "double"
    sys.path.insert(0, folder)
    try:
        assert pickle.loads(one[1].payload)({"a", "q"}) == 2
    finally:
        sys.path.remove(folder)
        sys.modules.pop("helpers", None)
    assert one[2] == projects.digest(FILES)
    assert reference  # the same function, in this process and in that one


def test_a_script_read_from_standard_input_has_a_fingerprint():
    script = (
        "from mlflow_pipes.fingerprint.code import fingerprint\n"
        "def f(x):\n    return x + 1\n"
        "print(fingerprint(f).digest)"
    )
    told = [
        subprocess.run([sys.executable, *how], input=script, capture_output=True, text=True, check=True).stdout
        for how in (["-"], ["-"])
    ]
    assert told[0] == told[1] != ""
