"""Luigi: tasks with local targets (one file each), the local scheduler, two worker processes."""

import luigi
import protocol


class Stored(luigi.Task):
    """A task whose output is a number in a file."""

    folder = luigi.Parameter()
    start = luigi.IntParameter()

    def output(self):
        """Where the number is."""
        return luigi.LocalTarget(f"{self.folder}/{self.task_id}")

    def write(self, number):
        """Store the number."""
        with self.output().open("w") as file:
            file.write(str(number))

    def number(self):
        """Return the number that was stored."""
        with self.output().open() as file:
            return int(file.read())


class Increment(Stored):
    """The step at an index of a chain."""

    index = luigi.IntParameter()

    def requires(self):
        """What goes before it."""
        if self.index > 1:
            yield Increment(folder=self.folder, start=self.start, index=self.index - 1)

    def run(self):
        """Add one."""
        before = self.start
        for task in self.requires():
            before = task.number()
        self.write(before + 1)


class Shifted(Stored):
    """A step of a fan-out."""

    by = luigi.IntParameter()

    def requires(self):
        """What goes before it."""
        return Increment(folder=self.folder, start=self.start, index=1)

    def run(self):
        """Add its own number."""
        self.write(self.requires().number() + self.by)


class Total(Stored):
    """Gathers a fan-out."""

    size = luigi.IntParameter()

    def requires(self):
        """What goes before it."""
        return [Shifted(folder=self.folder, start=self.start, by=by) for by in range(self.size)]

    def run(self):
        """Sum them up."""
        self.write(sum(task.number() for task in self.requires()))


def tasks_of(graph, size, start, folder):
    """Return the tasks that are asked for; the others follow from what they require."""
    if graph == "chain":
        return [Increment(folder=folder, start=start, index=size)]
    if graph == "fan_out":
        return [Total(folder=folder, start=start, size=size)]
    return [Increment(folder=folder, start=item, index=1) for item in range(start, start + size)]


def main() -> None:
    """Measure."""
    asked = protocol.task()

    def carried_out(graph: str, size: int, start: int) -> int:
        wanted = tasks_of(graph, size, start, str(asked.state))
        if not luigi.build(wanted, local_scheduler=True, workers=2, no_lock=True, log_level="WARNING"):
            raise SystemExit("luigi.build did not succeed")
        return sum(task.number() for task in wanted)

    protocol.measure(asked, "luigi", carried_out, again=True)


if __name__ == "__main__":
    main()
