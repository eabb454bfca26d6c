"""What is kept of services, what is sent to them, and who may touch them."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.errors import ArgumentError, ConfigurationError, NotFoundError, ServiceError, WorldError
from mlflow_pipes.lifecycle import Service, ServiceRegistry, plain
from mlflow_pipes.lifecycle.services import client
from mlflow_pipes.lifecycle.services.state import checked_name, is_loopback, read_service, write_json, write_service
from mlflow_pipes.machine import daemons, processes
from mlflow_pipes.machine.locks import exclusive

ROWS = [{"a": 1.5, "b": "x"}, {"a": 2.5, "b": "y"}]
SPLIT = {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, "x"], [2.5, "y"]]}}


def service(**changes):
    known = {
        "name": "delays", "version": "3", "model_digest": "d" * 64, "host": "127.0.0.1", "port": 1, "pid": 0,
        "process": "gone", "started_at": 1.0, "release": "r1", "tags": {"team": "a"},
    }  # fmt: skip
    return Service(**{**known, **changes})


@pytest.mark.parametrize(
    "rows",
    [ROWS, pd.DataFrame(ROWS), pl.DataFrame(ROWS), pa.Table.from_pylist(ROWS)],
    ids=["list", "pandas", "polars", "arrow"],
)
def test_rows_of_any_kind_make_the_same_request(rows):
    assert client.payload(rows) == SPLIT


def test_one_row_rows_with_gaps_and_arrays_make_requests_too():
    assert client.payload({"a": 1}) == {"dataframe_split": {"columns": ["a"], "data": [[1]]}}
    assert client.payload([{"a": 1}, {"b": 2}]) == {"dataframe_records": [{"a": 1}, {"b": 2}]}
    assert client.payload([{"a": 1, "b": 2}, {"b": 3, "a": 4}])["dataframe_split"]["data"] == [[1, 2], [4, 3]]
    assert client.payload(np.eye(2)) == {"inputs": [[1.0, 0.0], [0.0, 1.0]]}
    assert client.payload([]) == {"inputs": []}


@pytest.mark.parametrize(
    ("rows", "says"), [("text", "not str"), ([{"a": object()}], "object"), ([{"a": 1e999}], "infinity")]
)
def test_rows_that_json_cannot_say_are_refused_here(rows, says):
    with pytest.raises(ArgumentError, match=says):
        client.payload(rows)


def test_values_of_numpy_and_pandas_become_plain_ones():
    frame = pd.DataFrame({"n": [1, 2], "t": pd.to_datetime(["2013-01-01", None]), "s": ["a", None], "x": [0.5, np.nan]})
    assert plain(frame) == [
        {"n": 1, "t": "2013-01-01T00:00:00", "s": "a", "x": 0.5},
        {"n": 2, "t": None, "s": None, "x": None},
    ]
    assert plain({"a": np.float64(0.1), "b": (np.int32(1), np.bool_(1)), 3: pd.NA, "d": date(2013, 1, 2)}) == {
        "a": 0.1, "b": [1, True], "3": None, "d": "2013-01-02",
    }  # fmt: skip


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_come_back_from_json_as_they_were(values):
    assert json.loads(json.dumps(plain(np.array(values)))) == values


def test_a_record_comes_back_as_it_was_written(tmp_path):
    write_service(tmp_path, service(is_new=True))
    assert read_service(tmp_path) == service()


def test_fields_of_a_later_version_are_ignored_and_a_broken_file_counts_as_none(tmp_path):
    write_service(tmp_path, service())
    file = tmp_path / "service.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "new": 1}))
    assert read_service(tmp_path) == service()
    for broken in ("{", "[]", '{"name": "x"}'):
        file.write_text(broken)
        assert read_service(tmp_path) is None
    assert read_service(tmp_path / "nowhere") is None


def test_what_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path):
    write_json(tmp_path / "f", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "f", {"a": object()})
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
    assert json.loads((tmp_path / "f").read_text()) == {"a": 1}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "x" * 64, "ä"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name, tmp_path):
    with pytest.raises(ArgumentError, match="cannot be called"):
        checked_name(name)
    with pytest.raises(ArgumentError):
        ServiceRegistry(tmp_path).get(name)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "example.org", "10.0.0.1", "::", "127.0.0.1.example.org", "localhost.example.org"]
)
def test_only_loopback_is_served_unless_asked_for(host, tmp_path):
    assert not is_loopback(host)
    with pytest.raises(ArgumentError, match="expose=True"):
        ServiceRegistry(tmp_path).deploy("delays", tmp_path, host=host)


def test_a_service_that_is_not_there_is_told_with_a_near_name(tmp_path):
    registry = ServiceRegistry(tmp_path)
    assert registry.list() == []
    write_registered(tmp_path, service())
    for act in (
        registry.get,
        registry.stop,
        registry.remove,
        lambda name: registry.call(name, []),
        lambda name: list(registry.logs(name)),
    ):
        with pytest.raises(NotFoundError, match="did you mean 'delays'"):
            act("delay")


def write_registered(folder, record):
    (folder / record.name).mkdir()
    write_service(folder / record.name, record)


def test_a_service_whose_process_is_gone_is_dead_and_cannot_be_called(tmp_path):
    write_registered(tmp_path, service())
    registry = ServiceRegistry(tmp_path)
    assert [found.status for found in registry.list()] == ["dead"]
    with pytest.raises(ServiceError, match="is dead; deploy it again"):
        registry.call("delays", [])


def test_a_pid_that_another_process_has_got_is_not_the_service_and_never_killed(tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        write_registered(tmp_path, service(pid=sleeper.pid, process="another boot/1"))
        registry = ServiceRegistry(tmp_path)
        assert registry.get("delays").status == "dead"
        assert registry.stop("delays").status == "stopped"
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_process_is_ended_politely_and_if_it_does_not_listen_by_force():
    deaf = "import signal,sys,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        who = processes.identity(child.pid)
        assert daemons.alive(child.pid, who)
        daemons.terminate(child.pid, who, timeout_s=0.1)
        assert not daemons.alive(child.pid, who)  # a zombie does not live
        daemons.terminate(child.pid, who, timeout_s=0.1)
    assert processes.identity(child.pid) is None


def test_a_function_for_the_model_needs_its_digest(tmp_path):
    with pytest.raises(ArgumentError, match="model_digest"):
        ServiceRegistry(tmp_path).deploy("delays", lambda: tmp_path)
    with pytest.raises(ArgumentError, match="no MLflow model folder"):
        ServiceRegistry(tmp_path).deploy("delays", tmp_path)
    with pytest.raises(ArgumentError, match="port"):
        ServiceRegistry(tmp_path).deploy("delays", tmp_path, port=70_000)


def test_a_lock_is_held_by_one_at_a_time_and_freed_when_the_holder_is_killed(tmp_path):
    inside, most = [], []

    def work():
        with exclusive(tmp_path / "lock", what="test", timeout_s=10):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1

    holder = os.fork()
    if holder == 0:
        with exclusive(tmp_path / "lock", what="test", timeout_s=10):
            (tmp_path / "held").touch()
            time.sleep(60)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(WorldError, match="another process"), exclusive(tmp_path / "lock", what="test", timeout_s=0.1):
        pass
    os.kill(holder, 9)
    os.waitpid(holder, 0)
    with exclusive(tmp_path / "lock", what="test", timeout_s=5):
        pass


def test_looking_at_services_and_models_imports_nothing_heavy(tmp_path):
    write_registered(tmp_path, service())
    code = f"""
import sys
from pathlib import Path
from mlflow_pipes.lifecycle import ModelRegistry, ServiceRegistry
registry = ServiceRegistry(Path({str(tmp_path)!r}))
registry.list(), registry.stop("delays")
ModelRegistry.of_workspace(Path({str(tmp_path)!r}), {{}}).champion("delays")
heavy = {{"mlflow", "pandas", "numpy", "starlette", "uvicorn", "sqlalchemy", "sklearn", "pyarrow"}} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_replacing_can_be_forbidden(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/MLmodel").write_text("flavors: {}\n")
    me = service(pid=os.getpid(), process=processes.identity(os.getpid()))
    write_registered(tmp_path / "model", me)
    with pytest.raises(ConfigurationError, match="replace=True"):
        ServiceRegistry(tmp_path / "model").deploy("delays", tmp_path / "model", replace=False)
