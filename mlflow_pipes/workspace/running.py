"""``run``: from a declared pipeline to a recorded run, put together from the workspace's parts."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_pipes.authoring import graph_of
from mlflow_pipes.engine import Engine, Inputs, random_id
from mlflow_pipes.errors import DeclarationError, RunFailed
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.model.run import RunStarted, Status, short_text
from mlflow_pipes.ports import RunObserver
from mlflow_pipes.worker.context import importing_user_module
from mlflow_pipes.workspace.compute import make_targets, started
from mlflow_pipes.workspace.interrupts import cancel_on_interrupt
from mlflow_pipes.workspace.logs import RunLogWriter
from mlflow_pipes.workspace.process import this_host, this_process
from mlflow_pipes.workspace.publishing import PublishWhileRunning
from mlflow_pipes.workspace.pulse import pulse
from mlflow_pipes.workspace.records import Run
from mlflow_pipes.workspace.source_state import source_state
from mlflow_pipes.workspace.workspace import Workspace


def run(
    call: Any,
    *,
    workspace: Workspace | str | Path | None = None,
    target: str | None = None,
    observers: Sequence[RunObserver] | None = None,
    raise_on_failure: bool = True,
    tags: Mapping[str, str] | None = None,
    experiment: str | None = None,
    fail_fast: bool | None = None,
) -> Run:
    """Run a pipeline call or a step call to its end and return its record.

    Steps whose result is known are reused; the others run on their targets. Blocks until all has ended.

    Args:
        call: what calling a pipeline or a step returned, such as ``flight_delays(folder=path)``.
        workspace: where results and history are kept: a Workspace, its path, or None to find or make one
            (see ``Workspace.open``).
        target: compute target for steps that name none; by default the workspace's.
        observers: who sees the run as it goes; None for the terminal's view, ``()`` for nobody.
        raise_on_failure: whether a run that does not succeed raises.
        tags: labels for the run.
        experiment: MLflow experiment; by default the pipeline's, else its name.
        fail_fast: overrides the pipeline's: whether the first failure stops everything.

    Raises:
        DeclarationError: the graph or the configuration is wrong; nothing has run.
        RunFailed: the run failed or was cancelled; carries the Run.
        WorldError: the workspace cannot be used.
    """
    if importing_user_module():
        raise DeclarationError(
            "run(...) is called while a worker imports your file: put the call under `if __name__ == '__main__':`"
        )
    graph = graph_of(call)
    if fail_fast is not None:
        graph = replace(graph, fail_fast=fail_fast)
    own = None if isinstance(workspace, Workspace) else Workspace.open(workspace)
    home = workspace if isinstance(workspace, Workspace) else own
    assert home is not None
    record = _run_started(graph, home, target, tags, experiment)
    _run_graph(graph, record, home, observers)
    done = home.runs.get(record.run_id)
    if raise_on_failure and done.status != Status.SUCCEEDED:
        raise RunFailed(done.failure_text(), done)
    return done


def _run_started(
    graph: Graph, home: Workspace, target: str | None, tags: Mapping[str, str] | None, experiment: str | None
) -> RunStarted:
    return RunStarted(
        run_id=random_id(),
        pipeline=graph.name,
        experiment=experiment or graph.experiment or home.configuration.experiment or graph.name,
        started_at=home.clock.now(),
        parameters={name: short_text(value) for name, value in graph.parameters.items()},
        tags={**graph.tags, **(tags or {})},
        host=this_host(),
        process=this_process(),
        user=getpass.getuser(),
        target=target or home.configuration.target,
        source=source_state(Path(graph.file).parent if graph.file else Path.cwd()),
        file=graph.file,
        doc=graph.doc,
        command=" ".join(sys.argv)[:1000],
    )


def _run_graph(graph: Graph, record: RunStarted, home: Workspace, observers: Sequence[RunObserver] | None) -> None:
    inputs = Inputs(home.datastore, home.file_memo)
    inputs.prepare(graph)
    targets = make_targets(
        graph,
        default=record.target,
        configured=home.configuration.targets,
        folder=home.folder,
        datastore=home.datastore,
    )
    publishing = PublishWhileRunning(home.folder, home.configuration)
    with RunLogWriter(home.folder / "logs", record.run_id) as log, home.showing(observers, graph) as shown:
        engine = Engine(
            graph,
            started=record,
            ledger=home.ledger,
            datastore=home.datastore,
            inputs=inputs,
            targets=targets,
            default_target=record.target,
            observers=[*shown, publishing],
            log=log,
            clock=home.clock,
            new_id=random_id,
            environ=home.configuration.step_environ(home.folder),
        )
        in_this_thread = any(getattr(target, "runs_in_this_thread", False) for target in targets.values())
        with (
            cancel_on_interrupt(engine.cancel, in_this_thread=in_this_thread),
            started(targets.values(), engine.report),
            pulse(home.ledger, record.run_id) if in_this_thread else nullcontext(),
        ):
            engine.run()
    publishing.run_ended()
