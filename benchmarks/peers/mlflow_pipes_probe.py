"""mlflow_pipes: a step that calls a function of its own file and one of another file. The driver edits a copy."""

import sys
from pathlib import Path
from uuid import uuid4

from probe_nearby import times

from mlflow_pipes import run, step


def plus(x: int) -> int:
    return x + 1


@step
def probed(x: int) -> str:
    return f"PROBE {times(plus(x)) + 0} {uuid4().hex}"


if __name__ == "__main__":
    print(run(probed(10), workspace=Path(sys.argv[1]) / ".pipes", observers=()).output())
