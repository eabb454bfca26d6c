from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.publication import Publication
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.tracked import Metric
from mlflow_pipes.tracking.client_models import fingerprint
from mlflow_pipes.tracking.rendering import in_order, render
from mlflow_pipes.tracking.sheet import MLFLOW_STATUS, NOTE, Point, Sheet, with_origin

ROOT, STEP = "a" * 32, "b" * 32


def _step(**fields: Any) -> Publication:
    given: dict[str, Any] = {
        "run_id": STEP,
        "revision": 3,
        "root_id": ROOT,
        "parent_id": ROOT,
        "experiment": "flights",
        "name": "train[max_depth=8]",
        "kind": "step",
        "status": Status.SUCCEEDED,
        "started_at": 10.0,
        "ended_at": 12.5,
    }
    return Publication(**{**given, **fields})


def _own(**fields: Any) -> Sheet:
    return render(_step(**fields))[0]


def test_every_status_has_one_of_mlflows() -> None:
    assert set(MLFLOW_STATUS) == set(Status)
    assert set(MLFLOW_STATUS.values()) <= {"SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"}
    for status in Status:
        assert (MLFLOW_STATUS[status] in {"FINISHED", "FAILED", "KILLED"}) is status.ended


@pytest.mark.parametrize(("status", "ended_ms"), [(Status.SUCCEEDED, 12500), (Status.RUNNING, None)])
def test_only_an_ended_run_has_an_end(status: Status, ended_ms: int | None) -> None:
    sheet = _own(status=status)
    assert (sheet.started_ms, sheet.ended_ms) == (10000, ended_ms)


def test_a_run_that_never_started_begins_when_it_ended() -> None:
    assert _own(status=Status.SKIPPED, started_at=None).started_ms == 12500


def test_tags_tell_what_the_run_is_in_our_words() -> None:
    tags = _own(user="ann", source_file="p.py", tags={"mine": "yes"}, reused_from="c" * 32).tags
    assert tags["pipes.run_id"] == STEP
    assert tags["pipes.root_id"] == ROOT
    assert tags["pipes.kind"] == "step"
    assert tags["pipes.status"] == "succeeded"
    assert tags["pipes.reused_from"] == "c" * 32
    assert tags["mlflow.source.name"] == "p.py"
    assert tags["mlflow.user"] == "ann"
    assert tags["mine"] == "yes"


def test_the_note_has_the_users_words_then_the_failure_then_the_outputs() -> None:
    sheet = _own(
        status=Status.FAILED, tags={NOTE: "Mine."}, message="ValueError: bad", outputs={"model": "a Ridge", "n": "3"}
    )
    assert sheet.tags[NOTE] == "Mine.\n\n**failed**: ValueError: bad\n\n**Outputs**\n\n- `model`: a Ridge\n- `n`: 3"


def test_numbers_are_points_in_order_and_once() -> None:
    again = Metric("loss", number=1.0, step=1, timestamp_ms=5)
    sheet = _own(metrics=(again, Metric("loss", number=2.0, step=0, timestamp_ms=4), again, Metric("a", number=None)))
    assert sheet.points == (Point("loss", 2.0, 0, 4), Point("loss", 1.0, 1, 5))


def test_nan_counts_once_too() -> None:
    points = in_order([Point("m", math.nan, 0, 0), Point("m", float("nan"), 0, 0)])
    assert len(points) == 1


def test_text_is_a_tag_and_in_full_a_file() -> None:
    sheet = _own(metrics=(Metric("short", "text", plain="hi"), Metric("long", "text", plain="x" * 6000)))
    assert sheet.tags["short"] == "hi"
    assert len(sheet.tags["long"]) == 5000
    assert sheet.files.texts == {"long.txt": "x" * 6000}


def test_a_list_of_numbers_is_a_series_and_another_a_file() -> None:
    sheet = _own(metrics=(Metric("l", "list", plain=[3, 4.5]), Metric("w", "list", plain=["a", None])))
    assert [(point.value, point.step) for point in sheet.points] == [(3.0, 0), (4.5, 1)]
    assert json.loads(sheet.files.texts["w.json"]) == ["a", None]


def test_a_table_is_an_artifact_that_mlflows_ui_finds() -> None:
    known = json.dumps([{"path": "t.json", "type": "table"}])
    sheet = _own(
        metrics=(Metric("confusion", "table", plain={"a": [1, 2], "b": ["x"]}),), tags={"mlflow.loggedArtifacts": known}
    )
    assert json.loads(sheet.files.texts["confusion.json"]) == {"columns": ["a", "b"], "data": [[1, "x"], [2, None]]}
    assert [entry["path"] for entry in json.loads(sheet.tags["mlflow.loggedArtifacts"])] == ["t.json", "confusion.json"]


def test_a_figure_is_a_png() -> None:
    leaf = Leaf("file", digest_bytes(b"png"), inline=b"png")
    assert _own(metrics=(Metric("roc/curve", "figure", figure=leaf),)).files.figures == {"roc/curve.png": leaf}


def test_a_reused_step_links_to_the_run_that_computed_it() -> None:
    sheet = with_origin(_own(reused_from="c" * 32, tags={NOTE: "Mine."}), "d" * 32, "7")
    assert sheet.tags["pipes.reused_from_mlflow_run_id"] == "d" * 32
    assert sheet.tags[NOTE].startswith("Mine.\n\nReused: computed by [this run](#/experiments/7/runs/" + "d" * 32)


def _nested(run_id: str, parent_id: str | None, **fields: Any) -> dict[str, Any]:
    given = {
        "run_id": run_id, "name": run_id, "parent_id": parent_id, "status": "RUNNING", "started_ms": 11000,
        "ended_ms": None, "metrics": [["m", 1.0, 0, 11000]], "params": {"p": "1"}, "tags": {},
    }  # fmt: skip
    return {**given, **fields}


def test_nested_runs_follow_their_parents_and_end_with_the_step() -> None:
    sheets = render(_step(nested=(_nested("n2", "n1"), _nested("n1", STEP), _nested("n3", None, status="FAILED"))))
    order = [sheet.run_id for sheet in sheets]
    assert order[0] == STEP
    assert order.index("n1") < order.index("n2")
    by_id = {sheet.run_id: sheet for sheet in sheets}
    assert by_id["n3"].parent_id == STEP
    assert by_id["n1"].status == "FINISHED"
    assert by_id["n3"].status == "FAILED"
    assert by_id["n1"].ended_ms == 12500
    assert by_id["n2"].files.subfolder == ".mlflow/runs/n2"


def test_what_was_uploaded_is_known_by_content() -> None:
    text = Metric("long", "text", plain="x" * 6000)
    assert fingerprint(_own()) == ""
    assert fingerprint(_own(metrics=(text,))) == fingerprint(_own(metrics=(text,), ended_at=99.0))
    assert fingerprint(_own(metrics=(text,))) != fingerprint(_own(metrics=(replace(text, plain="y" * 6000),)))
