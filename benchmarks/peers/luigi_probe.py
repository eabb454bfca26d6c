"""Luigi: a task with a local target that calls a function of its own file and one of another file."""

import sys
from uuid import uuid4

import luigi
from probe_nearby import times


def plus(x):
    return x + 1


class Probed(luigi.Task):
    x = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(f"{sys.argv[1]}/{self.task_id}")

    def run(self):
        with self.output().open("w") as file:
            file.write(f"PROBE {times(plus(self.x)) + 0} {uuid4().hex}")


if __name__ == "__main__":
    asked = Probed(x=10)
    assert luigi.build([asked], local_scheduler=True, no_lock=True, log_level="WARNING")
    with asked.output().open() as stored:
        print(stored.read())
