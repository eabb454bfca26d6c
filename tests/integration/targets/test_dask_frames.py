"""Steps that use Dask, on a real encrypted cluster of several processes; a thread each, so that a wait is a dead end."""

import importlib
import os
import textwrap
import threading

import pytest

from mlflow_pipes import Workspace, content, run
from mlflow_pipes.workspace.records import Status

pytest.importorskip("dask.dataframe")
pytest.importorskip("cryptography")
from distributed import Client, LocalCluster, Security

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FLOW = """
    import os

    import dask
    import dask.array as da
    import dask.dataframe as dd
    import numpy as np
    import pandas as pd
    from mlflow_pipes import pipeline, step

    def numbers(first, rows):
        frame = pd.DataFrame({"n": np.arange(first, first + rows), "pid": os.getpid()})
        return frame.assign(even=frame["n"] % 2 == 0)

    @step
    def made(rows: int, parts: int) -> dd.DataFrame:
        firsts = range(0, rows, rows // parts)
        return dd.from_map(numbers, firsts, rows=rows // parts).drop(columns="pid")

    @step
    def kept(frame: dd.DataFrame, least: int) -> dd.DataFrame:
        return frame[frame["even"] & (frame["n"] >= least)]

    @step
    def total(frame: pd.DataFrame) -> int:
        return int(frame["n"].sum())

    @pipeline
    def handed_over(rows: int, parts: int, least: int = 0):
        return total(kept(made(rows, parts), least))

    @step
    def processes() -> tuple[int, list[int]]:
        return os.getpid(), sorted(set(dd.from_map(numbers, range(8), rows=2)["pid"].compute().tolist()))

    @step
    def squares(size: int, block: int) -> da.Array:
        return da.arange(size, chunks=block) ** 2

    @step
    def summed(array: da.Array, by: int) -> int:
        return int(array.sum().compute()) + by

    @pipeline
    def many(count: int):
        array = squares(100, 10)
        return processes(), [summed(array, by) for by in range(count)]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(**options, local_directory=str(folder), security=Security.temporary()) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Steps of a project of their own, which Dask's workers cannot import."""
    folder = tmp_path_factory.mktemp("flow_of_dask_frames")
    (folder / "flow_of_dask_frames.py").write_text(textwrap.dedent(FLOW))
    (folder / "pipes.toml").write_text("")
    with pytest.MonkeyPatch.context() as context:
        context.syspath_prepend(folder)
        yield importlib.import_module("flow_of_dask_frames")


@pytest.fixture
def workspace(cluster, tmp_path):
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        (tmp_path / name).write_text(getattr(cluster.security, name))
    files = ", ".join(f'{name} = "{tmp_path / name}"' for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"))
    (tmp_path / "pipes.toml").write_text(
        f'target = "cluster"\n[targets.cluster]\ntype = "dask"\naddress = "{cluster.scheduler_address}"\n'
        f"security = {{ {files}, require_encryption = true }}\n"
    )
    with Workspace.open(tmp_path / ".pipes") as workspace:
        yield workspace


def test_a_table_handed_over_in_parts_is_reused_and_repaired_however_it_is_divided(workspace, flow):
    first = run(flow.handed_over(1000, 4), workspace=workspace)
    assert first.output() == sum(range(0, 1000, 2))
    here = run(flow.handed_over(1000, 10), workspace=workspace, target="inline")
    assert {step.name: step.status for step in here.steps} == {
        "made": Status.SUCCEEDED,
        "kept": Status.REUSED,
        "total": Status.REUSED,
    }
    made, again = first.step("made").artifact, here.step("made").artifact
    assert made.identity == again.identity
    assert made.layout != again.layout

    part = max(content.blobs_of(made, workspace.datastore) - {made.layout})
    file = workspace.datastore.path(part)
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    spoilt = run(flow.handed_over(1000, 4, least=500), workspace=workspace)
    assert spoilt.output() == sum(range(500, 1000, 2))
    file.unlink()
    gone = run(flow.handed_over(1000, 4, least=900), workspace=workspace, target="inline")
    assert gone.output() == sum(range(900, 1000, 2))
    assert gone.step("made").status is Status.SUCCEEDED


def test_steps_compute_on_the_cluster_they_run_on_also_when_they_are_more_than_its_threads(workspace, flow, cluster):
    dead_end = threading.Timer(120, os.abort)
    dead_end.start()
    try:
        (own, others), sums = run(flow.many(8), workspace=workspace).output()
    finally:
        dead_end.cancel()
    assert sums == [sum(number**2 for number in range(100)) + by for by in range(8)]
    with Client(cluster, set_as_default=False) as client:
        workers = set(client.run(os.getpid).values())
    assert own not in workers
    assert set(others) <= workers
