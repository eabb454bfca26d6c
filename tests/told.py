"""What a run tells while it goes on: a step that speaks for three seconds, and a reader of the run's log."""

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from mlflow_pipes.errors import NotFoundError
from mlflow_pipes.workspace.logs import Followed, follow_log

TALKER = """
import logging
import time

from mlflow_pipes import current_run, pipeline, step


@step
def talk(seconds: float) -> int:
    kept = bytearray(100_000_000)
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        print(number, time.time())
        logging.getLogger("talk").warning("%d %s", number, time.time())
        current_run().progress(number, 100, f"{time.time()}")
        number += 1
        time.sleep(0.1)
    return number + len(kept)


@pipeline
def talks(seconds: float = 3.0):
    return talk(seconds)
"""


def told(workspace, begin):
    """Return a run and the lines of its log, each with how many seconds after the step said it somebody read it."""
    lines = []
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(begin)
        run_id = None
        while run_id is None:
            try:
                run_id = workspace.runs.get("latest").id
            except NotFoundError:
                time.sleep(0.02)
        followed = follow_log(workspace.folder, run_id, lambda: Followed(over=begun.done()))
        lines += [(time.time() - float(line.text.split()[-1]), line) for line in followed]
        return begun.result(), lines


def check_told(done, lines):
    """Hold that all that the talker said was there within two seconds, in order, and what it used."""
    assert median(late for late, _ in lines) < 2.0  # of all of them, where no other work holds the machine up
    words = {"stdout": 0, "logging": -2, "progress": 0}  # where the number stands in a line
    numbers = {
        stream: [int(line.text.split()[word]) for _, line in lines if line.stream == stream]
        for stream, word in words.items()
    }
    said = numbers["stdout"]
    assert len(said) > 10
    assert said == list(range(len(said)))
    assert numbers["logging"] == said
    assert len(numbers["progress"]) >= 2
    assert numbers["progress"] == sorted(numbers["progress"])
    assert numbers["progress"][-1] >= said[-1] - 1  # the last one may be lost: those that follow fast are dropped
    samples = done.step("talk").usage
    assert samples
    assert all(sample.memory_bytes > 100_000_000 for sample in samples)
    assert all(0 <= sample.cpus < 2 for sample in samples)
