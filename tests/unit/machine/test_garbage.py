import gc
import subprocess
import sys

import pytest

from mlflow_pipes.machine.garbage import collected_rarely


@pytest.fixture(autouse=True)
def _thresholds_as_they_were():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_garbage_is_looked_for_less_often_until_the_last_of_several_has_ended():
    gc.set_threshold(700, 10, 10)
    first, second = collected_rarely(), collected_rarely()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold()[0] > 700
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("usual", [0, 1_000_000])
def test_who_has_it_off_or_rarer_still_is_left_alone(usual):
    gc.set_threshold(usual, 10, 10)
    with collected_rarely():
        assert gc.get_threshold()[0] == usual


def test_what_somebody_chooses_meanwhile_stays():
    gc.set_threshold(700, 10, 10)
    with collected_rarely():
        gc.set_threshold(50_000, 20, 20)
    assert gc.get_threshold() == (50_000, 20, 20)


def test_a_process_that_ends_quickly_does_not_wait_for_a_pipe_that_nobody_reads():
    script = """
import os, threading, time
from mlflow_pipes.machine.garbage import end_quickly

end_quickly()
reads, writes = os.pipe()
pipe = os.fdopen(writes, "wb")
begun = threading.Event()

def fill():
    begun.set()
    while True:
        pipe.write(bytes(100_000))

threading.Thread(target=fill, daemon=True).start()
begun.wait()
time.sleep(0.2)
"""
    subprocess.run([sys.executable, "-c", script], timeout=20, check=True)


def test_a_process_that_ends_quickly_loses_nothing_that_was_written_to_open_files(tmp_path):
    text, plain = tmp_path / "text", tmp_path / "plain"
    script = f"""
from mlflow_pipes.machine.garbage import end_quickly

class Knot:
    def __init__(self):
        self.itself = self
        self.text, self.plain = open({str(text)!r}, "w"), open({str(plain)!r}, "wb")
        self.text.write("kept")
        self.plain.write(b"kept")

    def __del__(self):
        print("garbage was looked for")

end_quickly()
end_quickly()
Knot()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert (text.read_text(), plain.read_bytes()) == ("kept", b"kept")
