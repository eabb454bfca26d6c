"""Blobs that stay on the machines of Dask workers: consumers find them there, and nothing of them is left."""

import shutil
import tempfile
from pathlib import Path

import pytest

from mlflow_pipes import Workspace, content, run, step
from mlflow_pipes.model.attempt import AttemptFailed, AttemptSucceeded, FailureKind
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.stores.tiered import TierThere
from mlflow_pipes.testing.target_driver import assignment_of, driving, imported

pytest.importorskip("distributed")
from distributed import Nanny, Scheduler, SpecCluster

from mlflow_pipes.targets.dask import DaskTarget

MEMORY = Path("/dev/shm")
SIZE = 3 << 20

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("ledger_in_workspace"),
    pytest.mark.skipif(not MEMORY.is_dir(), reason="no file system in memory"),
]

STEPS = """
import os

def make(number, size):
    return os.urandom(size)

def measure(blob):
    return len(blob)
"""


@pytest.fixture(scope="module")
def tiers():
    """Two folders in memory, which is of another file system than datastores are."""
    folder = Path(tempfile.mkdtemp(prefix="pipes-test-", dir=MEMORY))
    yield [folder / "one", folder / "other"]
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def address(tiers, tmp_path_factory):
    """A cluster whose workers are as if they were on machines of their own: each has another place for its tier."""
    local = str(tmp_path_factory.mktemp("dask"))
    options = {"nthreads": 1, "local_directory": local, "dashboard_address": None, "silence_logs": 50}
    workers = {
        number: {"cls": Nanny, "options": {**options, "env": {"PLACE_OF_TIER": str(tier)}}}
        for number, tier in enumerate(tiers)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "port": 0, "dashboard_address": ":0"}}
    with SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50) as cluster:
        yield cluster.scheduler_address
    assert [path for tier in tiers if tier.exists() for path in tier.iterdir()] == [], "tiers end with their workers"


@pytest.fixture
def steps(tmp_path):
    file = tmp_path / "steps_of_tier_test.py"
    file.write_text(STEPS)
    return lambda name, datastore, **arguments: assignment_of(imported(file, name), datastore, arguments)


def target_at(address, datastore, folder, there=None):
    return DaskTarget(
        "cluster", datastore, checkout=folder / "checkout", scratch=folder / "scratch", address=address, there=there
    )


def blobs_in(tier):
    return {file.parent.name + file.name for file in tier.glob("mlflow_pipes-*/blobs/*/*")}


def test_a_consumer_finds_in_its_workers_tier_what_is_not_in_the_datastore_any_more(address, tiers, tmp_path, steps):
    datastore = LocalDatastore(tmp_path / "datastore")
    there = TierThere(datastore, "$PLACE_OF_TIER", 64 << 20)
    with driving(target_at(address, datastore, tmp_path, there)) as driver:
        made = driver.run(steps("make", datastore, number=1, size=SIZE), 60)
        assert isinstance(made, AttemptSucceeded), made
        (blob,) = content.blobs_of(made.output, datastore)
        assert len([tier for tier in tiers if blob.hash in blobs_in(tier)]) == 1, "it is on its maker's machine only"
        datastore.delete([blob])
        consumer = steps("measure", datastore, blob=0)
        consumer.arguments["blob"] = made.output
        done = driver.run(consumer)
        assert isinstance(done, AttemptSucceeded), done
        assert content.load(done.output, datastore) == SIZE

    with driving(target_at(address, datastore, tmp_path)) as driver:
        consumer = steps("measure", datastore, blob=0)
        consumer.arguments["blob"] = made.output
        failed = driver.run(consumer)
        assert isinstance(failed, AttemptFailed), "without a tier it could not have been read"
        assert failed.failure.kind is FailureKind.INPUT


TOML = """
[targets.far]
type = "dask"
address = "%s"
local_tier = "$PLACE_OF_TIER"
local_tier_bytes = "32 MiB"
"""


@step
def made(size: int) -> bytes:
    return bytes(size)


def test_what_gc_removed_is_made_again_although_a_tier_has_it(address, tiers, tmp_path):
    (tmp_path / "pipes.toml").write_text(TOML % address)
    with Workspace.open(tmp_path) as home:
        first = run(made(SIZE), workspace=home, target="far", observers=())
        blobs = [digest for digest, _ in home.datastore.blobs() if digest.size_bytes >= SIZE]
        assert blobs
        assert {blob.hash for blob in blobs} <= set.union(*map(blobs_in, tiers))
        home.datastore.delete(blobs)
        again = run(made(SIZE), workspace=home, target="far", observers=())
        assert [one.reused for one in again.steps] == [False]
        assert again.output() == first.output() == bytes(SIZE)
        assert home.datastore.has(blobs) == set(blobs)
