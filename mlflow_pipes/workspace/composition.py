"""One run put together: workspace, targets, engine, publisher and display."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from mlflow_pipes.engine import Engine, Inputs, random_id
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.attempt import LogLine, TargetEvent
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.model.run import Record, RunStarted
from mlflow_pipes.ports import ComputeTarget, InThisThread, RunObserver
from mlflow_pipes.wording import short_text
from mlflow_pipes.workspace.compute import make_targets, started
from mlflow_pipes.workspace.interrupts import cancel_on_interrupt
from mlflow_pipes.workspace.logs import RunLogWriter
from mlflow_pipes.workspace.publishing import PublishWhileRunning
from mlflow_pipes.workspace.pulse import pulse
from mlflow_pipes.workspace.records import Run
from mlflow_pipes.workspace.source_state import source_state
from mlflow_pipes.workspace.workspace import Workspace


def run_graph(
    graph: Graph,
    home: Workspace,
    *,
    target: str | None,
    observers: Sequence[RunObserver] | None,
    tags: Mapping[str, str],
    experiment: str | None,
) -> Run:
    """Run a graph to its end, whatever that is, and return its record; arguments as of ``run``."""
    record = _run_started(graph, home, target, tags, experiment)
    _run(graph, record, home, observers)
    return home.runs.get(record.run_id)


def _run_started(
    graph: Graph, home: Workspace, target: str | None, tags: Mapping[str, str], experiment: str | None
) -> RunStarted:
    return RunStarted(
        run_id=random_id(),
        pipeline=graph.name,
        experiment=experiment or graph.experiment or home.configuration.experiment or graph.name,
        started_at=home.clock.now(),
        parameters={name: short_text(value) for name, value in graph.parameters.items()},
        tags={**graph.tags, **tags},
        host=this_host(),
        process=this_process(),
        user=getpass.getuser(),
        target=target or home.configuration.target,
        source=source_state(Path(graph.file).parent if graph.file else Path.cwd()),
        file=graph.file,
        doc=graph.doc,
        command=" ".join(sys.argv)[:1000],
    )


def _run(graph: Graph, record: RunStarted, home: Workspace, observers: Sequence[RunObserver] | None) -> None:
    inputs = Inputs(home.datastore, home.file_memo)
    inputs.prepare(graph)
    targets = make_targets(
        graph,
        default=record.target,
        configured=home.configuration.targets,
        folder=home.folder,
        datastore=home.datastore,
    )
    in_this_thread = [name for name, one in targets.items() if isinstance(one, InThisThread)]
    publishing = PublishWhileRunning(home.folder, home.configuration)
    with RunLogWriter(home.folder, record.run_id) as log, home.showing(observers, graph) as shown:
        engine = Engine(
            graph,
            started=record,
            ledger=home.ledger,
            inputs=inputs,
            targets=targets,
            default_target=record.target,
            observers=[*(_without_seen(one, graph, targets, record.target) for one in shown), publishing],
            log=log,
            clock=home.clock,
            new_id=random_id,
            environ=home.configuration.step_environ(home.folder),
        )
        with (
            cancel_on_interrupt(engine.cancel, in_this_thread=bool(in_this_thread)),
            started(targets.values(), engine.report),
            pulse(home.ledger, record.run_id) if in_this_thread else nullcontext(),
        ):
            engine.run()
    publishing.run_ended()


class _WithoutSeenLines:
    """An observer that is not told the lines which somebody at the terminal has already seen."""

    def __init__(self, observer: RunObserver, nodes: frozenset[str]) -> None:
        self._observer = observer
        self._nodes = nodes

    def recorded(self, records: Sequence[Record]) -> None:
        self._observer.recorded(records)

    def seen(self, event: TargetEvent) -> None:
        if not (isinstance(event, LogLine) and event.attempt.node in self._nodes):
            self._observer.seen(event)


def _without_seen(
    observer: RunObserver, graph: Graph, targets: Mapping[str, ComputeTarget], default: str
) -> RunObserver:
    shown = {name for name, one in targets.items() if isinstance(one, InThisThread) and one.shows_output}
    if not shown:
        return observer
    return _WithoutSeenLines(
        observer, frozenset(node.id for node in graph.nodes.values() if (node.options.target or default) in shown)
    )
