"""``current_run()`` inside and outside a run."""

import threading
from pathlib import Path

import pytest

from mlflow_pipes.errors import ArgumentError, NotFoundError
from mlflow_pipes.model.attempt import Assignment, AttemptId, Progress
from mlflow_pipes.model.step import PickledFunction
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.worker.context import RunContext, active, current_run, importing, importing_user_module, last_part


@pytest.fixture
def events():
    return []


@pytest.fixture
def context(tmp_path, events):
    assignment = Assignment(
        AttemptId("r" * 32, "outer/train[depth=8]", 2),
        "flights",
        PickledFunction("train", b""),
        {},
        step_run_id="s" * 32,
    )
    return RunContext(assignment, folder=tmp_path / "attempt", emit=events.append, datastore=MemoryDatastore())


def test_outside_a_run_everything_works_offline():
    run = current_run()
    assert run.offline
    assert run is current_run()
    run.progress(1, 2)
    run.log("offline accuracy", 0.9)
    assert run.metrics[-1].key == "offline accuracy"
    assert run.scratch.is_dir()
    assert run.workspace is None
    assert run.attempt == 1


def test_inside_a_run_it_is_known(context):
    with active(context):
        run = current_run()
        assert (run.id, run.run_id, run.pipeline, run.attempt) == ("s" * 32, "r" * 32, "flights", 2)
        assert (run.node, run.name) == ("outer/train[depth=8]", "train[depth=8]")
        assert not run.offline
    assert current_run().offline


def test_threads_of_a_step_see_its_run(context):
    seen = []
    with active(context):
        thread = threading.Thread(target=lambda: seen.append(current_run()))
        thread.start()
        thread.join()
    assert seen == [context]


@pytest.mark.parametrize(
    ("node", "name"),
    [("train", "train"), ("a/b/train", "train"), ("a[x=/tmp/y]/train[path=c/d]", "train[path=c/d]"), ("", "")],
)
def test_the_name_is_the_last_part_of_the_node(node, name):
    assert last_part(node) == name


def test_scratch_is_made_when_first_asked_for(context, tmp_path):
    assert not (tmp_path / "attempt").exists()
    assert not context.has_scratch
    (context.scratch / "file").write_text("x")
    assert context.scratch == tmp_path / "attempt" / "scratch"
    assert context.has_scratch


def test_a_name_logged_again_makes_a_series(context):
    for value in (3, 2, 1):
        context.log("loss", value)
    context.log("loss", 0.5, step=10)
    context.log("loss", 0.25)
    assert [(metric.number, metric.step) for metric in context.metrics] == [
        (3, 0),
        (2, 1),
        (1, 2),
        (0.5, 10),
        (0.25, 11),
    ]


def test_a_figure_goes_to_the_datastore(context):
    class Drawn:
        def savefig(self, target, **_options):
            target.write(b"\x89PNG")

    context.log("curve", Drawn())
    (metric,) = context.metrics
    assert metric.kind == "figure"
    assert metric.figure.form == "curve.png"
    assert metric.figure.inline is None
    assert bytes(context._datastore.read(metric.figure.digest)) == b"\x89PNG"


def test_a_logged_text_hides_secrets(context, monkeypatch):
    monkeypatch.setenv("PIPES_SECRET_TOKEN", "xyzzy-1")
    context.log("url", "https://user:xyzzy-1@host")
    assert context.metrics[0].plain == "https://user:***@host"


def test_progress_is_told_but_not_too_often(context, events):
    for done in range(1_000):
        context.progress(done, 999)
    assert 2 <= len(events) < 20
    assert events[-1] == Progress(AttemptId("r" * 32, "outer/train[depth=8]", 2), 999.0, 999.0)


def test_a_secret_comes_from_its_variable(context, monkeypatch):
    monkeypatch.setenv("PIPES_SECRET_DB_PASSWORD", "open sesame")
    assert context.secret("db-password") == "open sesame"


def test_a_missing_secret_names_variable_and_near_name(context, monkeypatch):
    monkeypatch.setenv("PIPES_SECRET_TOKEN", "x")
    with pytest.raises(NotFoundError, match=r"did you mean 'token'\? Set .* PIPES_SECRET_TOKE "):
        context.secret("toke")


def test_what_cannot_be_logged_is_named(context):
    with pytest.raises(ArgumentError, match=r"'thing'.*Path"):
        context.log("thing", Path())


def test_a_module_being_imported_is_known_while_it_is():
    assert importing_user_module() is None
    with importing("flights"):
        assert importing_user_module() == "flights"
    assert importing_user_module() is None
