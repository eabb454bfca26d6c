"""Which attempt goes to which task of Spark's, how many tasks are asked for, and who is sent away."""

import math
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from mlflow_pipes.errors import ConfigurationError, TargetError
from mlflow_pipes.model.attempt import AttemptId
from mlflow_pipes.targets.spark.board import LINGER_S, SHIFT_S, Board, Given
from mlflow_pipes.targets.spark.greeting import greet, welcome
from mlflow_pipes.targets.spark.java import java_home
from mlflow_pipes.targets.spark.plan import SparkPlan, with_session
from mlflow_pipes.targets.spark.tempo import Tempo
from mlflow_pipes.targets.spark.troubles import explained


def attempt(name):
    return AttemptId("run", name, 1)


def board_with(waiting=(), tasks=(), now=0.0):
    board = Board()
    for name in waiting:
        board.add(attempt(name), 1.0, now)
    for number, host in tasks:
        board.came(number, host, "job", now)
    return board


def test_attempts_go_to_free_tasks_in_order():
    board = board_with("abc", [(1, "here"), (2, "there")])
    assert board.place(0.0) == [Given(attempt("a"), 1), Given(attempt("b"), 2)]
    assert board.waiting() == [attempt("c")]
    board.answered(attempt("b"), 1.0)
    assert board.place(1.0) == [Given(attempt("c"), 2)]


def test_short_attempts_are_given_ahead_evenly():
    board = board_with("abcdef", [(1, "here"), (2, "here")])
    placed = board.place(0.0, lambda _: 2)
    assert sorted(given.task for given in placed) == [1, 1, 2, 2]
    assert board.waiting() == [attempt("e"), attempt("f")]


def test_nothing_is_given_behind_what_may_take_long():
    board = board_with("abc", [(1, "here"), (2, "here")])
    placed = board.place(0.0, lambda one: 1 if one == attempt("a") else 4)
    assert placed == [Given(attempt("a"), 1), Given(attempt("b"), 2), Given(attempt("c"), 2)]


def test_an_attempt_of_several_processors_has_tasks_of_its_host_stand_by():
    board = board_with((), [(1, "here"), (2, "there"), (3, "there")])
    board.add(attempt("wide"), 2.0, 0.0)
    board.add(attempt("next"), 1.0, 0.0)
    assert board.place(0.0) == [Given(attempt("wide"), 2), Given(attempt("next"), 1)]
    board.add(attempt("last"), 1.0, 0.0)
    assert board.place(0.0) == [], "task 3 stands by"
    assert board.dismissed(LINGER_S + 1) == []
    board.answered(attempt("wide"), 1.0)
    assert board.place(1.0) == [Given(attempt("last"), 2)]


def test_what_waits_first_is_not_overtaken_for_ever():
    board = board_with((), [(1, "here")])
    board.add(attempt("wide"), 2.0, 0.0)
    board.add(attempt("small"), 1.0, 0.0)
    assert board.place(0.0) == []
    assert board.wanted(8) == 2


def test_no_more_tasks_are_asked_for_than_there_is_work_and_room():
    board = board_with("abcde", [(1, "here")])
    assert board.wanted(math.inf) == 4
    assert board.wanted(3) == 2
    board.asked("job 2", 2)
    assert board.wanted(3) == 0
    board.came(2, "here", "job 2", 0.0)
    assert board.wanted(3) == 0, "one of the two is still to come"
    assert board.job_ended("job 2"), "one has come"
    assert board.wanted(3) == 1
    board.asked("job 3", 1)
    assert not board.job_ended("job 3")


def test_tasks_linger_and_then_go():
    board = board_with("a", [(1, "here"), (2, "here")])
    board.place(0.0)
    assert board.dismissed(LINGER_S / 2) == []
    assert board.next_due() == LINGER_S
    assert board.dismissed(LINGER_S) == [2]
    assert board.dismissed(LINGER_S) == [], "it was told"
    board.add(attempt("b"), 1.0, LINGER_S)
    assert board.place(LINGER_S) == [], "who leaves is given nothing"
    assert board.wanted(2) == 1


def test_after_a_shift_a_task_makes_room_for_others():
    board = board_with("ab", [(1, "here")])
    board.place(0.0)
    late = SHIFT_S + 1
    board.answered(attempt("a"), late)
    assert board.place(late) == []
    assert board.dismissed(late) == [1]
    assert board.wanted(1) == 1


def test_who_goes_away_leaves_what_it_had():
    board = board_with("abc", [(1, "here")])
    board.place(0.0, lambda _: 2)
    assert board.left(1) == [attempt("a"), attempt("b")]
    assert board.left(1) == []
    assert board.task_of(attempt("a")) is None


def test_it_is_known_for_how_long_nothing_moves():
    board = board_with("a", now=10.0)
    assert board.stuck_s(15.0) == 5.0
    board.came(1, "here", "job", 16.0)
    assert board.stuck_s(17.0) == 1.0
    board.place(17.0)
    assert board.stuck_s(1000.0) == 0.0


def test_only_short_attempts_are_sent_ahead():
    tempo = Tempo()
    assert tempo.ahead("load") == 1
    tempo.took("load", 0.002)
    assert tempo.ahead("load") == tempo.latest > 1
    assert tempo.ahead("train") == 1
    for _ in range(20):
        tempo.took("load", 1.0)
    assert tempo.ahead("load") == tempo.latest == 1


def test_a_master_that_there_cannot_be_is_refused():
    with pytest.raises(ConfigurationError, match="sc://HOST:PORT"):
        SparkPlan("mesos://host")


def test_a_token_is_not_shown():
    assert SparkPlan("sc://host:1/;token=abc;user_id=me").where == "sc://host:1/;token=***;user_id=me"


def test_executors_of_this_machine_alone_come_by_loopback():
    plan = SparkPlan("local[2]")
    assert plan.listens_at(plan.reached_at()) == "127.0.0.1"
    assert SparkPlan("yarn", host="edge.example.org").listens_at("edge.example.org") == "0.0.0.0"
    assert SparkPlan("spark://127.0.0.1:7077").reached_at() == "127.0.0.1"


def test_the_users_settings_come_before_ours():
    settings = SparkPlan(conf={"spark.ui.enabled": True, "spark.task.cpus": 2}).settings("127.0.0.1", "w", "t")
    assert (settings["spark.ui.enabled"], settings["spark.task.cpus"]) == ("true", "2")


@pytest.mark.parametrize("remote", ["sc://host", "sc://host/", "sc://host/;token=t;"])
def test_a_session_is_named_in_the_address(remote):
    named = with_session(remote, "id")
    assert named.endswith(";session_id=id")
    assert named.startswith("sc://host/;")
    assert ";;" not in named


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ModuleNotFoundError: No module named 'mlflow_pipes'", "install it there"),
        ("[PYTHON_VERSION_MISMATCH] Python in worker has different version", "name one of that version by `python`"),
        ("ERROR: All masters are unresponsive! Giving up.", "check that it runs"),
        ('x\nCannot run program "python9": error=2\ny', 'Cannot run program "python9"'),
        ("status = StatusCode.UNAVAILABLE", "nobody answers there"),
        ("something else\nmore", "something else"),
        ("", "said nothing"),
    ],
)
def test_what_spark_says_is_told_with_what_helps(said, told):
    message = explained("spark://m:7077", said)
    assert told in message
    assert "spark://m:7077" in message


def test_who_does_not_know_the_secret_is_not_let_in_and_does_not_stay():
    for ours, theirs, is_known in ((b"s" * 32, b"s" * 32, True), (b"s" * 32, b"t" * 32, False)):
        one, other = socket.socketpair()
        with one, other:
            found = []

            def let_in(connection=one, secret=ours, found=found):
                found.append(welcome(connection, secret))
                connection.shutdown(socket.SHUT_RDWR)

            host = threading.Thread(target=let_in)
            host.start()
            if is_known:
                greet(other, theirs)
            else:
                with pytest.raises(ConnectionError):
                    greet(other, theirs)
            host.join()
            assert found == [is_known]


def test_a_machine_without_java_is_told_how_to_get_one(tmp_path):
    with pytest.raises(TargetError, match="openjdk-17"):
        java_home({"PATH": str(tmp_path)}, tmp_path, lambda: None)
    with pytest.raises(TargetError, match="JAVA_HOME"):
        java_home({"JAVA_HOME": str(tmp_path), "PATH": ""}, tmp_path)


def test_a_java_of_a_package_is_started_without_what_it_does_not_understand(tmp_path):
    real = tmp_path / "real"
    (real / "bin").mkdir(parents=True)
    (real / "lib").mkdir()
    java = real / "bin" / "java"
    java.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    home = java_home({"PATH": str(tmp_path)}, tmp_path, lambda: real)
    command = [f"{home}/bin/java", "-a b", "--add-modules=jdk.incubator.vector", "$c"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "-a b|$c|"
    assert Path(home, "lib").samefile(real / "lib")
    assert java_home({"PATH": str(tmp_path)}, tmp_path, lambda: real) == home
