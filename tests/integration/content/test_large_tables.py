import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROGRAM = """
import json, resource, sys, threading, time
import numpy as np, pandas as pd, pyarrow
from mlflow_pipes.content import load, store
from mlflow_pipes.stores.local import LocalDatastore

def private():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024

class Peak:
    def __enter__(self):
        self.start = self.highest = private()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self
    def watch(self):
        while not self.ended.wait(0.002):
            self.highest = max(self.highest, private())
    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.growth = max(self.highest, private()) - self.start

rows = 2_000_000
chance = np.random.default_rng(0)
frame = pd.DataFrame({f"x{i}": chance.random(rows) for i in range(5)})
frame["s"] = pd.Series(np.array(["alpha", "beta", "gamma"])[chance.integers(0, 3, rows)])
datastore = LocalDatastore(sys.argv[1])
store(frame.head(10), datastore)
with Peak() as writing:
    artifact = store(frame, datastore)
with Peak() as reading:
    back = load(artifact, datastore)
    total = float(back["x0"].sum())
assert total == float(frame["x0"].sum())
print(json.dumps({"size": artifact.digest.size_bytes, "writing": writing.growth, "reading": reading.growth}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_frame_is_written_and_read_without_a_second_copy_in_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    figures = json.loads(done.stdout)
    assert figures["size"] > 100_000_000
    assert figures["writing"] < 0.2 * figures["size"]
    assert figures["reading"] < 0.2 * figures["size"]
