from __future__ import annotations

import json
import math
import multiprocessing
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.worker.capture.journal import Journal, Logged, apply, replay
from mlflow_pipes.worker.capture.location import Location

RUN = "a" * 32


def test_what_was_appended_is_read_once_and_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "journal.jsonl")
    journal.append(["tag", RUN, "a", "1"], ["tag", RUN, "b", "2"])
    assert list(journal.unread()) == [["tag", RUN, "a", "1"], ["tag", RUN, "b", "2"]]
    assert list(journal.unread()) == []
    journal.append(["untag", RUN, "a"])
    assert list(journal.unread()) == [["untag", RUN, "a"]]


def test_no_journal_says_nothing(tmp_path: Path) -> None:
    assert replay(tmp_path / "none.jsonl") == Logged()


def test_half_a_line_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps(["param", RUN, "a", "1"]) + "\n" + '["param","' + RUN)
    assert replay(path).runs[RUN].params == {"a": "1"}


def test_threads_lose_no_fact(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    def log(number: int) -> None:
        journal = Journal(path)
        for step in range(100):
            journal.append(["metric", RUN, [f"m{number}", float(step), step, 0], None, [None, None]])
        journal.close()

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replay(path).runs[RUN].points) == 400


def _log_from_a_process(path: Path, number: int) -> None:
    journal = Journal(path)
    for step in range(50):
        journal.append(["metric", RUN, [f"m{number}", float(step), step, 0], None, [None, None]])


def test_processes_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_log_from_a_process, args=(path, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert len(replay(path).runs[RUN].points) == 100


def test_equal_points_count_once_for_the_run_and_for_its_model() -> None:
    logged = Logged()
    apply(logged, ["model", {"model_id": "m-1", "name": "best"}])
    for model_id in (None, "m-1", "m-1"):
        apply(logged, ["metric", RUN, ["loss", 0.5, 1, 7], model_id, [None, None]])
    assert list(logged.runs[RUN].points) == [("loss", 0.5, 1, 7)]
    assert list(logged.models["m-1"].points) == [("loss", 0.5, 1, 7, RUN, None, None)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(allow_nan=False)), min_size=1))
def test_the_latest_value_is_that_of_the_highest_step_then_time_then_value(
    points: list[tuple[int, int, float]],
) -> None:
    logged = Logged()
    for step, at, value in points:
        apply(logged, ["metric", RUN, ["m", value, step, at], None, [None, None]])
    step, at, value = max(points)
    assert logged.runs[RUN].latest["m"] == ("m", value, step, at)


def test_nan_and_infinity_survive_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for step, value in enumerate([math.nan, math.inf, -math.inf]):
        journal.append(["metric", RUN, ["m", value, step, 0], None, [None, None]])
    values = [point[1] for point in replay(journal.path).runs[RUN].points]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


@given(name=st.text(max_size=40), folder=st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1))
def test_a_location_survives_its_uri(name: str, folder: str) -> None:
    location = Location(RUN, name, Path("/scratch") / folder)
    if ".." not in folder:
        assert Location.parse(location.uri) == location
