"""One run put together: workspace, targets, engine, publisher and display."""

from __future__ import annotations

import getpass
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_pipes.engine.inbox import Inbox
from mlflow_pipes.machine.garbage import end_quickly
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.attempt import LogLine, TargetEvent
from mlflow_pipes.model.graph import Graph, StepNode
from mlflow_pipes.model.run import Record, RunStarted, SourceState
from mlflow_pipes.ports import ComputeTarget, InThisThread, RunObserver, Warmable
from mlflow_pipes.scheduling.routing import Routing
from mlflow_pipes.wording import short_text
from mlflow_pipes.worker.secrets import mask_of_process
from mlflow_pipes.workspace.compute import make_target, make_targets, started
from mlflow_pipes.workspace.glance import first_by_code, first_by_inputs
from mlflow_pipes.workspace.placing import check_places
from mlflow_pipes.workspace.situation import Situation
from mlflow_pipes.workspace.source_state import SourceLook
from mlflow_pipes.workspace.spark_steps import check_spark
from mlflow_pipes.workspace.step_environments import StepEnvironments, check_targets
from mlflow_pipes.workspace.supply import supply_of
from mlflow_pipes.workspace.workspace import Workspace, open_ledger

# What follows the start of workers is imported when they are on their way: engine, ledger, publisher.
if TYPE_CHECKING:
    from mlflow_pipes.engine import Inputs
    from mlflow_pipes.model.resumption import Resumption, StoredCall
    from mlflow_pipes.workspace.records import Run

_logger = logging.getLogger(__name__)


def run_graph(
    graph: Graph,
    home: Workspace,
    *,
    situation: Situation,
    observers: Sequence[RunObserver] | None,
    call: StoredCall | None = None,
    resumption: Resumption | None = None,
) -> Run:
    """Run a graph to its end, whatever that is, and return its record; arguments as of ``run``.

    Whatever can go on beside others is begun first: workers that import the user's modules, and git.
    """
    began_at = home.clock.now()
    end_quickly()
    with SourceLook(Path(graph.file).parent if graph.file else Path.cwd()) as source:
        configured = situation.configuration.targets
        environments = StepEnvironments(home, situation)
        graph = environments.of_graph(graph)
        choices = check_places(graph.nodes.values(), situation.routing, configured)
        check_spark(graph.nodes.values(), choices, configured)
        if environments.used:
            check_targets(graph.nodes.values(), choices, configured)
        targets = make_targets(
            {choice.target for choice in choices.values()},
            configured=configured,
            folder=home.folder,
            project=home.configuration.folder,
            datastore=home.datastore,
        )
        with closing(Inbox()) as inbox, ExitStack() as closing_targets:
            closing_targets.enter_context(started(targets.values(), inbox.put))
            inputs = _warmed_up(graph, home, targets, situation)
            open_ledger(home)
            record = _run_started(graph, home, situation, source.state(), began_at)
            if resumption is not None:
                record = _resuming(record, resumption, home)
            record = replace(record, call=call)
            _run(
                graph,
                record,
                home,
                situation,
                inputs,
                targets,
                environments,
                inbox,
                observers,
                closing_targets,
                resumption,
            )
    return home.runs.get(record.run_id)


def _warmed_up(graph: Graph, home: Workspace, targets: Mapping[str, ComputeTarget], situation: Situation) -> Inputs:
    """Prepare the inputs, while targets make ready for the steps that are to be expected first."""
    ledger_file = None if home.configuration.ledger else home.folder / "ledger.db"
    environ = situation.configuration.step_environ(home.folder)
    expected = first_by_code(graph, ledger_file)
    _warm(expected, targets, situation.routing, environ)
    from mlflow_pipes.engine import Inputs

    inputs = Inputs(home.datastore, home.file_memo)
    inputs.prepare(graph)
    if not expected:
        _warm(first_by_inputs(graph, inputs, ledger_file, home.clock.now()), targets, situation.routing, environ)
    return inputs


def _warm(
    expected: Sequence[StepNode], targets: Mapping[str, ComputeTarget], routing: Routing, environ: Mapping[str, str]
) -> None:
    """Tell targets of the steps to expect, but of none that want a process to themselves, or of another interpreter."""
    nodes = [node for node in expected if not node.options.gpus and node.step.environment is None]
    for name, target in targets.items():
        functions = [node.step.function for node in nodes if routing.target_of(node) == name]
        if functions and isinstance(target, Warmable):
            try:
                target.warm(functions, environ)
            except Exception:  # whatever a target does wrong with a hint, the run goes on
                _logger.exception("target %r failed to warm up", name)


def _run_started(
    graph: Graph,
    home: Workspace,
    situation: Situation,
    source: SourceState,
    began_at: float,
) -> RunStarted:
    from mlflow_pipes.engine import random_id

    mask = mask_of_process()
    return RunStarted(
        run_id=random_id(),
        pipeline=graph.name,
        experiment=situation.experiment or graph.experiment or home.configuration.experiment or graph.name,
        started_at=began_at,
        parameters={name: mask(short_text(value)) for name, value in graph.parameters.items()},
        tags={**graph.tags, **situation.tags},
        host=this_host(),
        process=this_process(),
        user=getpass.getuser(),
        target=situation.routing.usual,
        source=source,
        file=graph.file,
        doc=graph.doc,
        command=mask(" ".join(sys.argv))[:1000],
    )


def _resuming(record: RunStarted, resumption: Resumption, home: Workspace) -> RunStarted:
    from mlflow_pipes.workspace.resuming import only_one_resumes

    record = replace(record, resumed_from=resumption.run_id, first_run_id=resumption.first_run_id)
    only_one_resumes(home.ledger, record)
    return record


def _run(
    graph: Graph,
    record: RunStarted,
    home: Workspace,
    situation: Situation,
    inputs: Inputs,
    targets: Mapping[str, ComputeTarget],
    environments: StepEnvironments,
    inbox: Inbox,
    observers: Sequence[RunObserver] | None,
    closing_targets: ExitStack,
    resumption: Resumption | None,
) -> None:
    from mlflow_pipes.engine import Engine, ids_in_order
    from mlflow_pipes.workspace.interrupts import cancel_on_interrupt
    from mlflow_pipes.workspace.logs import RunLogWriter
    from mlflow_pipes.workspace.publishing import PublishWhileRunning
    from mlflow_pipes.workspace.pulse import pulse

    opened = closing_targets.pop_all()  # closed once, and where the first Ctrl-C is no error

    def open_target(name: str) -> ComputeTarget:
        target = make_target(
            name,
            "a call that a step returned",
            configured=situation.configuration.targets,
            folder=home.folder,
            project=home.configuration.folder,
            datastore=home.datastore,
        )
        opened.enter_context(started([target], inbox.put))
        return target

    in_this_thread = [name for name, one in targets.items() if isinstance(one, InThisThread)]
    publishing = PublishWhileRunning(home.folder, home.configuration)
    with RunLogWriter(home.folder, record.run_id) as log, home.showing(observers, graph) as shown:
        engine = Engine(
            graph,
            started=record,
            ledger=home.ledger,
            inputs=inputs,
            targets=targets,
            routing=situation.routing,
            observers=[*(_without_seen(one, graph, targets, situation.routing) for one in shown), publishing],
            log=log,
            clock=home.clock,
            new_ids=ids_in_order(),
            environ=situation.configuration.step_environ(home.folder),
            supply=supply_of(situation.configuration),
            open_target=open_target,
            inbox=inbox,
            resumption=resumption,
            in_environments=environments.of_growth,
        )
        with (
            cancel_on_interrupt(engine.cancel, in_this_thread=bool(in_this_thread)),
            opened,
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
    observer: RunObserver, graph: Graph, targets: Mapping[str, ComputeTarget], routing: Routing
) -> RunObserver:
    shown = {name for name, one in targets.items() if isinstance(one, InThisThread) and one.shows_output}
    if not shown:
        return observer
    return _WithoutSeenLines(
        observer, frozenset(node.id for node in graph.nodes.values() if routing.target_of(node) in shown)
    )
