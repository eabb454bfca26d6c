import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
from mlflow_pipes.machine.priority import give_way
give_way()
print(os.getpriority(os.PRIO_PROCESS, 0))
print(open("/proc/self/autogroup").read() if os.path.exists("/proc/self/autogroup") else "")
"""


def after_giving_way(**how):
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60, **how)
    nice, group = done.stdout.splitlines()[:2]
    return int(nice), group


def test_a_process_gives_way_to_others_of_its_session():
    assert after_giving_way()[0] >= 10


def test_a_lower_priority_that_it_was_started_with_stays():
    assert after_giving_way(preexec_fn=lambda: __import__("os").nice(15))[0] == 15


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this system does not group by session")
def test_a_session_of_its_own_gives_way_to_other_sessions():
    assert after_giving_way(start_new_session=True)[1].endswith("nice 10")


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this system does not group by session")
def test_a_session_that_others_share_is_left_alone():
    before = Path("/proc/self/autogroup").read_text()
    assert after_giving_way()[1] == before.strip()
    assert Path("/proc/self/autogroup").read_text() == before
