"""What the ssh target decides without a machine: its command line, what errors mean, what is removed when."""

import os
import time

import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import AttemptFailed, AttemptId, AttemptStarted, Failure, FailureKind, LogLine
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.ssh.machine import Machine
from mlflow_pipes.targets.ssh.shipment import shipment_for, soabi_here
from mlflow_pipes.targets.ssh.troubles import explained
from mlflow_pipes.targets.station.cleaning import clean, hold, in_use
from mlflow_pipes.targets.station.clocks import by_our_clock


def test_host_keys_are_always_checked_and_nothing_is_asked():
    command = Machine("host", 2222, "me", "/k e y", "/known").command("print(1)")
    for option in ("StrictHostKeyChecking=yes", "BatchMode=yes", "UserKnownHostsFile=/known", 'IdentityFile="/k e y"'):
        assert command[command.index(option) - 1] == "-o"
    assert command[-7:] == ["-p", "2222", "-l", "me", "--", "host", "python3 -c 'print(1)'"]


def test_a_home_folder_in_the_interpreters_path_is_left_to_the_shell_there():
    assert Machine("host", python="~/my envs/bin/python").command("x")[-1] == "~/'my envs/bin/python' -c x"


@pytest.mark.parametrize("host", ["", "-oProxyCommand=reboot", "a b"])
def test_what_ssh_would_take_for_something_else_is_no_host(host):
    with pytest.raises(ConfigurationError, match="host"):
        Machine(host)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("bash: line 1: python3: command not found", 127, "there is no Python 'python3'"),
        ("me@host: Permission denied (publickey).", 255, "authorized_keys"),
        ("ssh: Could not resolve hostname hots: Name or service not known", 255, "Could not resolve hostname"),
        ("", 255, "ssh ended with code 255"),
        ("", None, "nothing was heard for 20 s"),
        ("WARNING: UNPROTECTED PRIVATE KEY FILE!\nPermission denied", 255, "chmod 600 /key"),
    ],
)
def test_what_ssh_says_is_told_with_the_remedy(words, code, told):
    message = explained(Machine("host", key="/key"), words, code)
    assert told in message
    assert message.startswith("cannot use host by ssh: ")
    assert words in message


def test_a_package_is_named_by_its_content_and_brings_what_is_missing_only():
    bare, full = shipment_for(soabi_here(), ("blake3", "cloudpickle")), shipment_for(soabi_here(), ())
    assert shipment_for("another", ()).name == full.name
    assert bare.name != full.name
    brought = {name.partition("/")[0] for name in bare.files.keys() - full.files.keys()}
    assert {"blake3", "cloudpickle"} <= brought
    assert "mlflow_pipes/__init__.py" in full.files


def test_binaries_of_another_kind_of_machine_are_left_to_its_pip():
    shipment = shipment_for("cpython-311-aarch64-linux-gnu linux-aarch64", ("blake3",))
    assert shipment.install == ("blake3>=1.0",)
    assert not any(name.startswith("blake3/") for name in shipment.files)


def test_times_of_a_machine_whose_clock_is_wrong_are_told_by_ours():
    attempt = AttemptId("run", "node", 1)
    line, started = LogLine(attempt, "stdout", "text", 100.0), AttemptStarted(attempt, 100.0)
    failed = AttemptFailed(attempt, Failure(FailureKind.LOST, "why"), 100.0, 101.0)
    assert by_our_clock(line, -90.0).at == 10.0
    assert by_our_clock(started, 5.0).started_at == 105.0
    assert (by_our_clock(failed, 5.0).started_at, by_our_clock(failed, 5.0).ended_at) == (105.0, 106.0)
    assert by_our_clock(line, 0.2) is line


@pytest.fixture
def there(tmp_path):
    (tmp_path / "sessions").mkdir()
    return tmp_path


def old(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_what_nobody_used_for_long_is_removed_when_nobody_is_there(there):
    store = LocalDatastore(there / "store")
    stale, fresh = store.put((b"stale",)), store.put((b"fresh",))
    old(store.path(stale), 1000)
    using = in_use(there)
    clean(there, store, unused_s=500)
    assert store.has([stale, fresh]) == {stale, fresh}
    os.close(using)
    clean(there, store, unused_s=500)
    assert store.has([stale, fresh]) == {fresh}


def test_blobs_that_are_in_use_count_as_new(there):
    store = LocalDatastore(there / "store")
    used = store.put((b"used",))
    old(store.path(used), 1000)
    store.refresh([used])
    clean(there, store, unused_s=500)
    assert store.has([used])


def test_the_store_is_not_looked_through_at_every_end(there):
    store = LocalDatastore(there / "store")
    clean(there, store, unused_s=500)
    stale = store.put((b"stale",))
    old(store.path(stale), 1000)
    clean(there, store, unused_s=500)
    assert store.has([stale])


def test_folders_of_dead_sessions_are_removed_and_those_of_living_ones_kept(there):
    for name in ("dead", "alive", "starting"):
        (there / "sessions" / name).mkdir()
    lock = hold(there / "sessions" / "alive")
    for name in ("dead", "alive"):
        old(there / "sessions" / name, 1000)
    clean(there, None)
    os.close(lock)
    assert {one.name for one in (there / "sessions").iterdir()} == {"alive", "starting"}
