import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes import content
from mlflow_pipes.digests import Digest, digest_bytes
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.run import OutputCached, RunEnded, RunStarted, Status, StepChanged, StepDeclared
from mlflow_pipes.workspace import Workspace
from mlflow_pipes.workspace.gc import collect, doomed_blobs
from mlflow_pipes.workspace.ledger.sweep import RunAge, kept_runs

NOW = 1_700_000_000.0
DAY = 86400.0


class FrozenClock:
    def now(self):
        return NOW


@pytest.fixture
def workspace(tmp_path, either_ledger):
    with Workspace.open(tmp_path / "w") as opened:
        opened.clock = FrozenClock()
        yield opened


def make_run(workspace, name, days_ago, *, live=False):
    """A run with one step whose output is a blob of its own, cached under its own key."""
    at = NOW - days_ago * DAY
    run_id, step_id, key = (f"{name}{kind}".encode().hex().ljust(32, "0") for kind in "rsk")
    output = content.store(name * 3000, workspace.datastore)
    for blob in content.blobs_of(output, workspace.datastore):
        os.utime(workspace.datastore.path(blob), (at, at))
    started = RunStarted(run_id, "flights", "flights", at, host=this_host(), process=this_process())
    records = [
        started,
        StepDeclared(run_id, step_id, "load", "load", "step", run_id),
        StepChanged(run_id, step_id, Status.SUCCEEDED, at, key=key, output=output),
        OutputCached(key, output, step_id, "flights", "load", at, 1.0),
    ]
    if not live:
        records.append(RunEnded(run_id, Status.SUCCEEDED, at, output))
    workspace.ledger.exchange(records, [], at)
    (workspace.folder / "logs" / f"{run_id}.jsonl").write_text("[]\n")
    return content.blobs_of(output, workspace.datastore)


def here(workspace, blobs):
    return workspace.datastore.has(blobs) == blobs


def test_old_runs_lose_outputs_entries_and_logs_and_young_ones_keep_all(workspace):
    old, young = make_run(workspace, "old", 40), make_run(workspace, "young", 3)
    report = collect(workspace, keep_days=30, keep_runs=0)
    assert not here(workspace, old)
    assert here(workspace, young)
    assert (report.entries, report.blobs, report.logs, report.kept_runs) == (1, 1, 1, 1)
    assert report.freed_bytes > 3000
    assert [run.output() for run in workspace.runs.list(limit=1)] == ["young" * 3000]
    assert len(workspace.runs.list()) == 2


def test_a_dry_run_changes_nothing_and_tells_the_same(workspace):
    old = make_run(workspace, "old", 40)
    told = collect(workspace, keep_runs=0, dry_run=True)
    assert here(workspace, old)
    done = collect(workspace, keep_runs=0)
    assert (told.entries, told.blobs, told.logs, told.freed_bytes) == (
        done.entries, done.blobs, done.logs, done.freed_bytes,
    )  # fmt: skip


def test_the_newest_runs_are_kept_whatever_their_age(workspace):
    older, old = make_run(workspace, "older", 50), make_run(workspace, "old", 40)
    collect(workspace, keep_days=1, keep_runs=1)
    assert here(workspace, old)
    assert not here(workspace, older)


def test_an_old_entry_that_a_kept_run_used_stays(workspace):
    old = make_run(workspace, "old", 40)
    run_id = "e" * 32
    key = b"oldk".hex().ljust(32, "0")
    workspace.ledger.exchange(
        [
            RunStarted(run_id, "flights", "flights", NOW - DAY, host=this_host(), process=this_process()),
            StepDeclared(run_id, "f" * 32, "load", "load", "step", run_id),
            StepChanged(run_id, "f" * 32, Status.REUSED, NOW - DAY, key=key),
            RunEnded(run_id, Status.SUCCEEDED, NOW - DAY),
        ],
        [],
        NOW - DAY,
    )
    report = collect(workspace, keep_days=30, keep_runs=0)
    assert report.entries == 0
    assert here(workspace, old)


def test_blobs_written_a_moment_ago_stay(workspace):
    fresh = workspace.datastore.put([b"fresh" * 1000])
    stale = workspace.datastore.put([b"stale" * 1000])
    os.utime(workspace.datastore.path(fresh), (NOW - 600, NOW - 600))
    os.utime(workspace.datastore.path(stale), (NOW - 2 * DAY, NOW - 2 * DAY))
    collect(workspace)
    assert workspace.datastore.has([fresh, stale]) == {fresh}


def test_while_a_run_is_under_way_nothing_that_it_may_need_goes(workspace):
    make_run(workspace, "live", 1, live=True)
    old = make_run(workspace, "old", 40)
    constant = workspace.datastore.put([b"constant" * 1000])
    os.utime(workspace.datastore.path(constant), (NOW - DAY + 60, NOW - DAY + 60))
    (workspace.folder / "checkout" / "x").mkdir()
    os.utime(workspace.folder / "checkout" / "x", (NOW - 9 * DAY, NOW - 9 * DAY))
    report = collect(workspace, keep_days=30, keep_runs=0)
    assert report.entries == 1
    assert here(workspace, old)
    assert here(workspace, {constant})
    assert (workspace.folder / "checkout" / "x").exists()


def test_folders_laid_out_for_reading_go_after_a_day(workspace):
    folder = workspace.folder / "checkout" / "x"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_bytes(b"12345")
    (folder / "inner").chmod(0o555)
    os.utime(folder, (NOW - 2 * DAY, NOW - 2 * DAY))
    report = collect(workspace)
    assert not folder.exists()
    assert (report.folders, report.freed_bytes >= 5) == (1, True)


BLOBS = st.lists(st.tuples(st.integers(0, 20).map(lambda n: digest_bytes(b"%d" % n)), st.floats(0, 100)), max_size=20)


@given(blobs=BLOBS, reachable=st.sets(st.integers(0, 20)), before=st.floats(0, 100))
def test_no_reachable_or_young_blob_is_ever_doomed(blobs, reachable, before):
    hashes = {digest_bytes(b"%d" % n).hash for n in reachable}
    doomed, kept_bytes = doomed_blobs(blobs, hashes, before)
    assert not {blob.hash for blob in doomed} & hashes
    assert all((blob, at) in blobs for blob in doomed for at in [next(t for d, t in blobs if d == blob and t < before)])
    assert kept_bytes + sum(blob.size_bytes for blob in doomed) == sum(blob.size_bytes for blob, _ in blobs)


def test_runs_under_way_young_or_newest_are_kept():
    runs = [
        RunAge("a", "p", 1, False),
        RunAge("b", "p", 2, False),
        RunAge("c", "q", 0, False),
        RunAge("d", "q", 0.5, True),
    ]
    assert kept_runs(runs, since=5, newest=0) == {"d"}
    assert kept_runs(runs, since=5, newest=1) == {"b", "d"}
    assert kept_runs(runs, since=1, newest=0) == {"a", "b", "d"}
    assert kept_runs(runs, since=9, newest=9) == {"a", "b", "c", "d"}


def test_digests_of_doomed_blobs_keep_their_sizes():
    assert doomed_blobs([(Digest("a" * 64, 7), 1.0)], set(), 2.0) == ([Digest("a" * 64, 7)], 0)
