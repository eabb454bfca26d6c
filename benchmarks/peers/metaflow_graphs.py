"""Metaflow: a flow file per graph, run as users run it (``python flow.py run``), local datastore, two workers.

Every task is a process of its own, and so is the run: its start counts, for there is no other way to run a flow.
A reuse of results between runs there is not; ``resume`` clones the tasks of one given run, and is measured as *again*.
"""

import os
import re
import subprocess
import sys

import protocol

HEAD = """from metaflow import FlowSpec, Parameter, step

class {name}(FlowSpec):
    origin = Parameter("origin", type=int)
"""
CHAIN_STEP = """
    @step
    def {name}(self):
        self.x = {before} + 1
        self.next(self.{following})
"""
FAN_OUT = """
    @step
    def start(self):
        self.first = self.origin + 1
        self.numbers = list(range({size}))
        self.next(self.shifted, foreach="numbers")

    @step
    def shifted(self):
        self.x = self.first + self.input
        self.next(self.gathered)

    @step
    def gathered(self, inputs):
        self.x = sum(one.x for one in inputs)
        self.next(self.end)
"""
END = """
    @step
    def end(self):
        print("ANSWER", self.x)

if __name__ == "__main__":
    {name}()
"""


def flow_of(graph: str, size: int, name: str) -> str:
    """Return the text of a flow; Metaflow reads steps from source, so a chain has to be written out."""
    if graph != "chain":
        return HEAD.format(name=name) + FAN_OUT.format(size=size) + END.format(name=name)
    names = ["start", *(f"step_{number}" for number in range(1, size)), "end"]
    steps = [
        CHAIN_STEP.format(name=one, before="self.x" if number else "self.origin", following=names[number + 1])
        for number, one in enumerate(names[:-1])
    ]
    return HEAD.format(name=name) + "".join(steps) + END.format(name=name)


def answer_of(arguments: list[str], state) -> tuple[int, str]:
    """Run a flow to its end; return the answer and the run's id."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=state, capture_output=True, text=True, check=False, env=os.environ
    )
    answer = re.search(r"ANSWER (\d+)", done.stdout)
    run_id = re.search(r"run-id (\d+)", done.stdout + done.stderr)
    if done.returncode or not run_id:
        raise SystemExit(f"{arguments} exited with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return int(answer[1]) if answer else -1, run_id[1]


def main() -> None:
    """Measure."""
    asked = protocol.task()
    runs: dict[tuple[str, int, int], str] = {}

    def carried_out(graph: str, size: int, start: int) -> int:
        name = f"{graph.title().replace('_', '')}{size}Flow"
        file = asked.state / f"{name}.py"
        file.write_text(flow_of(graph, size, name), encoding="utf-8")
        common = ["--max-workers", "2", "--max-num-splits", "100000"]
        call = (graph, size, start)
        if call not in runs:
            arguments = [str(file), "--no-pylint", "run", "--origin", str(start), *common]
        else:
            arguments = [str(file), "--no-pylint", "resume", "end", "--origin-run-id", runs[call], *common]
        answer, runs[call] = answer_of(arguments, asked.state)
        return answer

    protocol.measure(asked, "metaflow", carried_out, again=True)


if __name__ == "__main__":
    main()
