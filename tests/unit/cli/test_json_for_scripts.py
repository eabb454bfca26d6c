import datetime as dt
import json
from pathlib import Path

from mlflow_pipes.cli.changes import change_lines, change_record
from mlflow_pipes.cli.checks import Check, _guarded, machine_checks
from mlflow_pipes.cli.commands.services import parsed_rows
from mlflow_pipes.cli.output import iso, plain, write_json
from mlflow_pipes.cli.records import metrics_by_node
from mlflow_pipes.display.look import plain_text
from mlflow_pipes.model.run import Status
from mlflow_pipes.workspace.explain import Change


def test_what_json_cannot_say_becomes_text_or_null(capsys):
    value = {
        "status": Status.RUNNING, "path": Path("a/b"), "nan": float("nan"), "inf": float("inf"), 3: (1, 2),
        "at": dt.datetime(2013, 1, 31, 18, tzinfo=dt.UTC), "text": "ü\udce9",
    }  # fmt: skip
    value["text"] = "ü"
    write_json(value)
    assert json.loads(capsys.readouterr().out) == {
        "status": "running", "path": "a/b", "nan": None, "inf": None, "3": [1, 2],
        "at": "2013-01-31T18:00:00.000Z", "text": "ü",
    }  # fmt: skip


def test_times_are_utc_whatever_zone_they_come_in():
    zone = dt.timezone(dt.timedelta(hours=2))
    assert iso(dt.datetime(2013, 1, 31, 20, tzinfo=zone)) == "2013-01-31T18:00:00.000Z"
    assert iso(None) is None


def test_metrics_find_their_step_though_names_hold_slashes():
    rolled_up = {"prep/train[path=/a/b]/test/rmse": 1.0, "prep/mae": 2.0, "unknown/x": 3.0}
    assert metrics_by_node(rolled_up, ["prep", "prep/train[path=/a/b]"]) == {
        "prep/train[path=/a/b]": {"test/rmse": 1.0},
        "prep": {"mae": 2.0},
    }


def test_a_change_tells_what_and_by_which_way():
    change = Change("constant", "flights.OFFSET", ("flights.train", "flights.shift"), "a", "b")
    assert plain_text(change_lines([change])).splitlines() == [
        "    constant flights.OFFSET changed",
        "      reached by flights.train → flights.shift → flights.OFFSET",
    ]
    assert change_record(change)["via"] == ["flights.train", "flights.shift"]


def test_one_row_may_be_given_as_an_object():
    assert parsed_rows('{"a": 1}') == [{"a": 1}]
    assert parsed_rows('[{"a": 1}]') == [{"a": 1}]


def test_this_machine_is_fit_for_pipes():
    checks = list(machine_checks())
    assert not [check for check in checks if check.verdict == "fail"]
    assert {"python", "packages", "SQLite"} <= {check.name for check in checks}
    assert plain(checks[0])["verdict"] == "ok"


def test_a_check_that_breaks_is_a_failure_not_a_crash():
    def broken():
        raise OSError("gone")

    assert _guarded("disk", broken) == Check(
        "disk", "fail", "cannot be checked: OSError: gone", "PIPES_DEBUG=1 shows more"
    )


def test_the_way_to_a_function_that_the_step_calls_itself_is_told_too():
    helper = Change("function", "flights.shift", ("flights.train",), "a", "b")
    own = Change("function", "flights.train", ("flights.train",), "a", "b")
    assert "reached by flights.train → flights.shift" in plain_text(change_lines([helper]))
    assert "reached by" not in plain_text(change_lines([own]))
