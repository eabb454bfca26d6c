"""redun: a task that calls a function of its own file and one of another file."""

import logging
import sys
from uuid import uuid4

from probe_nearby import times
from redun import Scheduler, task
from redun.config import Config

redun_namespace = "peers"


def plus(x):
    return x + 1


@task()
def probed(x: int) -> str:
    return f"PROBE {times(plus(x)) + 0} {uuid4().hex}"


if __name__ == "__main__":
    logging.getLogger("redun").setLevel(logging.WARNING)
    scheduler = Scheduler(config=Config({"backend": {"db_uri": f"sqlite:///{sys.argv[1]}/redun.db"}}))
    scheduler.load()
    print(scheduler.run(probed(10)))
