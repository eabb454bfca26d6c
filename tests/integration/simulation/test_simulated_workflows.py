"""Real workflow graphs through the simulator, with recorded durations; the corpus's own oracle judges the traces."""

import importlib
import json
import sys

import networkx as nx
import pytest

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import RetryPolicy, StepOptions
from mlflow_pipes.testing.scenarios import Faults, Scenario, Silence, Task
from mlflow_pipes.testing.simulator import Simulation
from tests.corpora import CORPORA, needs_workflows, workflow_files

pytestmark = [
    pytest.mark.integration,
    needs_workflows,
    pytest.mark.filterwarnings(
        "ignore:.*trace.json:pytest.PytestUnraisableExceptionWarning"
    ),  # the oracle leaves it open
]

TWO_RUNS_S = 200.0
"""Sum of the durations where two runs share a ledger: one that waits for the other's key looks twice a second."""

NO_BOUND_S = 1e9
"""Given to the oracle as overhead where attempts fail: their work is not in its trace, so its bound says nothing."""


@pytest.fixture(scope="module")
def corpus():
    """The corpus's loader of workflow graphs and its oracle."""
    sys.path.insert(0, str(CORPORA / "wf"))
    try:
        return importlib.import_module("load_wf"), importlib.import_module("check_trace")
    finally:
        sys.path.pop(0)


def scenario_of(graph, slots, work_s=None, **world):
    """Return a scenario of a workflow graph, scaled to *work_s*; a task without a recorded duration takes a second."""
    recorded = {node: graph.nodes[node].get("runtime_s") or 1.0 for node in graph}
    scale = 1.0 if work_s is None else work_s / sum(recorded.values())
    tasks = tuple(
        Task(
            node,
            tuple(sorted(graph.predecessors(node))),
            seconds=recorded[node] * scale,
            options=StepOptions(retries=RetryPolicy(count=30, delay_s=0.1, max_delay_s=1.0)),
        )
        for node in nx.lexicographical_topological_sort(graph)
    )
    return Scenario(tasks=tasks, capacities={"local": Capacity(slots, slots=slots)}, **world)


def on_workers(spans):
    """Return the oracle's rows: each attempt on the worker that has been free for longest."""
    free, rows = {}, []
    for node, _, start, end in sorted(spans, key=lambda span: span[2:]):
        idle = [worker for worker, since in free.items() if since <= start]
        worker = min(idle, key=free.__getitem__, default=f"w{len(free)}")
        free[worker] = end
        rows.append({"id": node, "start": start, "end": end, "worker": worker})
    return rows


def judged(corpus, file, rows, slots, overhead_s, folder, capsys):
    trace = folder / "trace.json"
    trace.write_text(json.dumps(rows))
    capsys.readouterr()
    failed = corpus[1].main(file, trace, slots, overhead_s)
    return bool(failed), capsys.readouterr().out


def simulated(scenario):
    simulation = Simulation(scenario).run(events_at_most=10_000_000)
    assert simulation.broken == []
    return simulation.orchestrators


@pytest.mark.parametrize("slots", [1, 3, 16])
@pytest.mark.parametrize("file", workflow_files(), ids=lambda file: file.stem)
def test_a_faultless_run_keeps_the_order_and_grahams_bound(file, slots, corpus, tmp_path, capsys):
    graph = corpus[0].load(file)
    (run,) = simulated(scenario_of(graph, slots))
    rows = on_workers(run.spans)
    failed, verdict = judged(corpus, file, rows, slots, 0.0, tmp_path, capsys)
    assert not failed, verdict
    assert len({row["worker"] for row in rows}) <= slots


@pytest.mark.parametrize("slots", [2, 8])
@pytest.mark.parametrize("file", workflow_files(), ids=lambda file: file.stem)
def test_with_faults_every_step_is_still_done_once_and_in_order(file, slots, corpus, tmp_path, capsys):
    graph = corpus[0].load(file)
    faults = Faults(fail=0.1, lost=0.1, duplicate=0.1, late=0.1, held=0.1, slow=0.02)
    silences = (Silence(20.0, 60.0), Silence(500.0, 2.0))
    (run,) = simulated(scenario_of(graph, slots, faults=faults, silences=silences))
    failed, verdict = judged(corpus, file, on_workers(run.spans), slots, NO_BOUND_S, tmp_path, capsys)
    assert not failed, verdict


@pytest.mark.parametrize("commands_a_step", [3, 4])
@pytest.mark.parametrize("file", workflow_files(), ids=lambda file: file.stem)
def test_a_run_that_crashes_and_is_started_again_does_nothing_twice(file, commands_a_step, corpus, tmp_path, capsys):
    graph = corpus[0].load(file)
    crashed, again = simulated(scenario_of(graph, 4, crashes=(commands_a_step * len(graph),), crash_seen=False))
    spans = [*crashed.committed_spans, *again.spans]
    assert crashed.died_at is not None
    assert crashed.committed_spans
    failed, verdict = judged(corpus, file, on_workers(spans), 4, NO_BOUND_S, tmp_path, capsys)
    assert not failed, verdict


@pytest.mark.parametrize("file", workflow_files(), ids=lambda file: file.stem)
def test_two_runs_at_once_do_each_step_once(file, corpus, tmp_path, capsys):
    graph = corpus[0].load(file)
    one, other = simulated(scenario_of(graph, 3, TWO_RUNS_S, starts=(0.0, 5.0)))
    failed, verdict = judged(corpus, file, on_workers([*one.spans, *other.spans]), 6, NO_BOUND_S, tmp_path, capsys)
    assert not failed, verdict
