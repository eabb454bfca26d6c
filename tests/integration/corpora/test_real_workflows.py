"""Real workflow graphs, scaled down, run through the public API; the corpus's own oracle judges the trace."""

import importlib
import json
import os
import subprocess
import sys
import time

import pytest

from mlflow_pipes import Workspace, pipeline, run, step
from tests.corpora import CORPORA, needs_workflows, workflow_files

pytestmark = [pytest.mark.integration, pytest.mark.slow, needs_workflows]

WORK_S = 4.0
"""Sum of sleeping over all steps of one graph, in seconds."""

OVERHEAD_S = 0.02
"""What a step may cost besides its work before the oracle objects; these machines are shared."""


@step(cpus=1)
def task(name: str, seconds: float, size_bytes: int, inputs: list[bytes]) -> bytes:
    """Sleep as long as the task took and write as many bytes as it wrote, both scaled down."""
    time.sleep(seconds)
    seed = f"{name}:{sum(len(part) for part in inputs)}:".encode()
    return (seed * (size_bytes // len(seed) + 1))[: max(size_bytes, len(seed))]


@pytest.fixture(scope="module")
def workflow_of():
    """The corpus's own loader of workflow graphs."""
    sys.path.insert(0, str(CORPORA / "wf"))
    try:
        return importlib.import_module("load_wf").load
    finally:
        sys.path.pop(0)


def declared(graph):
    """Return a pipeline of the same shape as a workflow graph."""
    import networkx as nx

    total_s = sum(data.get("runtime_s") or 1.0 for _, data in graph.nodes(data=True))
    sizes = graph.graph["sizes"]

    @pipeline(name="workflow")
    def workflow():
        made = {}
        for node in nx.lexicographical_topological_sort(graph):
            data = graph.nodes[node]
            seconds = (data.get("runtime_s") or 1.0) / total_s * WORK_S
            size = min(4096, sum(sizes.get(file, 0) for file in data["outputs"]) // 1000)
            parents = [made[parent] for parent in sorted(graph.predecessors(node))]
            made[node] = task.options(name=node.replace("/", ":"))(node, seconds, size, parents)
        return [made[node] for node in graph if graph.out_degree(node) == 0]

    return workflow()


def judged(file, trace, workers, folder):
    """Return what the corpus's oracle says of a trace, and whether it accepts it."""
    (folder / "trace.json").write_text(json.dumps(trace))
    oracle = [sys.executable, str(CORPORA / "wf" / "check_trace.py")]
    arguments = [str(file), str(folder / "trace.json"), str(workers), str(OVERHEAD_S)]
    done = subprocess.run([*oracle, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr, done.returncode == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", workflow_files(), ids=lambda file: file.stem)
def test_every_real_workflow_runs_in_order_and_within_grahams_bound(file, tmp_path, workflow_of):
    workers = len(os.sched_getaffinity(0))
    graph = workflow_of(file)
    with Workspace.open(tmp_path / ".pipes") as workspace:
        done = run(declared(graph), workspace=workspace, observers=())
        assert done.status == "succeeded"
        assert len(done.steps) == len(graph)
        trace = [
            {
                "id": step_run.node.replace(":", "/") if step_run.node not in graph else step_run.node,
                "start": step_run.started_at.timestamp(),
                "end": step_run.ended_at.timestamp(),
                "worker": step_run.worker,
            }
            for step_run in done.steps
        ]
        verdict, accepted = judged(file, trace, workers, tmp_path)
        assert accepted, verdict

        again = run(declared(graph), workspace=workspace, observers=())
        assert all(step_run.reused for step_run in again.steps)
        assert again.output() == done.output()
