"""``run``: from a declared pipeline to a recorded run. Heavy parts are imported when it is called, not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import DeclarationError, RunFailed

if TYPE_CHECKING:
    from mlflow_pipes.model.resumption import Resumption
    from mlflow_pipes.ports import RunObserver
    from mlflow_pipes.workspace.records import Run
    from mlflow_pipes.workspace.situation import NamedConfiguration
    from mlflow_pipes.workspace.workspace import Workspace


def run(
    call: Any,
    *,
    workspace: Workspace | str | Path | None = None,
    target: str | None = None,
    configuration: NamedConfiguration | None = None,
    observers: Sequence[RunObserver] | None = None,
    raise_on_failure: bool = True,
    tags: Mapping[str, str] | None = None,
    experiment: str | None = None,
    fail_fast: bool | None = None,
    priority: int | None = None,
    resume: str | None = None,
) -> Run:
    """Run a pipeline call or a step call to its end and return its record.

    Steps whose result is known are reused; the others run on their targets. Blocks until all has ended.

    Args:
        call: what calling a pipeline or a step returned, such as ``flight_delays(folder=path)``; or a pipeline itself,
            which is called with what the run configuration says.
        workspace: where results and history are kept: a Workspace, its path, or None to find or make one
            (see ``Workspace.open``).
        target: compute target for all steps that name none themselves; by default what the run configuration's rules,
            the pipeline, or the workspace say.
        configuration: a run configuration, its name in the project, or the path of its file; for what is not given
            here.
        observers: who sees the run as it goes; None for the terminal's view, ``()`` for nobody.
        raise_on_failure: whether a run that does not succeed raises.
        tags: labels for the run.
        experiment: MLflow experiment; by default the pipeline's, else its name.
        fail_fast: overrides the pipeline's: whether the first failure stops everything.
        priority: overrides the pipeline's: larger goes first where runs share targets or tokens.
        resume: id of an ended run of the same pipeline: effects (``reuse="never"``) that happened in it are not done
            again, all others keep their idempotency keys.

    Raises:
        DeclarationError: the graph or the configuration is wrong, or the run cannot be resumed; nothing has run.
        RunFailed: the run failed or was cancelled; carries the Run.
        WorldError: the workspace cannot be used.
    """
    from mlflow_pipes.authoring import graph_of
    from mlflow_pipes.authoring.settings import checked_priority
    from mlflow_pipes.machine.garbage import collected_rarely
    from mlflow_pipes.worker.context import importing_user_module
    from mlflow_pipes.workspace.calls import stored_call
    from mlflow_pipes.workspace.composition import run_graph
    from mlflow_pipes.workspace.situation import called, loaded, situation_of
    from mlflow_pipes.workspace.workspace import Workspace, located

    if importing_user_module():
        raise DeclarationError(
            "run(...) is called while your file is imported: put the call under `if __name__ == '__main__':`"
        )
    with collected_rarely():
        home = workspace if isinstance(workspace, Workspace) else None if configuration is None else located(workspace)
        chosen = None if home is None else loaded(configuration, home.configuration)
        try:
            call = called(call, chosen)
            graph = graph_of(call)
        except DeclarationError as error:  # it names the culprit in the user's code; our dozen frames would hide that
            raise error.with_traceback(None) from error.__cause__
        home = home or located(None if isinstance(workspace, Workspace) else workspace)
        situation = situation_of(home.configuration, chosen, target=target, tags=tags, experiment=experiment)
        given = {
            "target": target,
            "configuration": None if chosen is None else chosen.source,
            "experiment": experiment,
            "tags": dict(tags or {}),
            "fail_fast": fail_fast,
            "priority": priority,
        }
        if chosen is not None:
            fail_fast = chosen.fail_fast if fail_fast is None else fail_fast
            priority = chosen.priority if priority is None else priority
        if fail_fast is not None:
            graph = replace(graph, fail_fast=fail_fast)
        if priority is not None:
            graph = replace(graph, priority=checked_priority(priority, f"run(priority={priority!r})"))
        stored = stored_call(call, {name: value for name, value in given.items() if value not in (None, {})})
        resumption = None if resume is None else _resumption(home, resume, graph.name)
        done = run_graph(
            graph,
            home,
            situation=situation,
            observers=observers,
            call=stored,
            resumption=resumption,
        )
    if raise_on_failure and done.status != "succeeded":
        raise RunFailed(done.failure_text(), done)
    return done


def _resumption(home: Workspace, run_id: str, pipeline: str) -> Resumption:
    from mlflow_pipes.workspace.resuming import check_resumable, resumption_of

    before = home.runs.get(run_id)
    check_resumable(home, before, pipeline)
    return resumption_of(home, before)


def resume(
    run_id: str,
    *,
    workspace: Workspace | str | Path | None = None,
    target: str | None = None,
    configuration: NamedConfiguration | None = None,
    observers: Sequence[RunObserver] | None = None,
    raise_on_failure: bool = True,
    tags: Mapping[str, str] | None = None,
    fail_fast: bool | None = None,
) -> Run:
    """Declare the call of an ended run again, from its file as it is now, and run it as a new run linked to that one.

    What is done is reused, as in any run; effects (``reuse="never"``) that happened in the runs resumed are not done
    again. Relative paths among the arguments are meant from the working folder.

    Args:
        run_id: id of the run, a beginning of it that only one run has, or ``latest``.
        workspace: as for ``run``.
        target: as for ``run``; by default what the run resumed was given, as for all that follow.
        configuration: as for ``run``; a file is read as it is now.
        observers: as for ``run``.
        raise_on_failure: as for ``run``.
        tags: as for ``run``.
        fail_fast: as for ``run``.

    Raises:
        DeclarationError: the run is still under way, succeeded, or its call was not kept; the remedy is told.
        NotFoundError: there is no such run, or its file is gone.
        RunFailed: the new run failed or was cancelled; carries the Run.
    """
    from mlflow_pipes.workspace.calls import declared_again
    from mlflow_pipes.workspace.resuming import call_of_run, check_resumable
    from mlflow_pipes.workspace.workspace import Workspace

    home = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    before = home.runs.get(run_id)
    check_resumable(home, before, before.pipeline)
    stored = call_of_run(home, before)
    given = {**stored.given, "target": target, "configuration": configuration, "tags": tags, "fail_fast": fail_fast}
    given = {name: stored.given.get(name) if value is None else value for name, value in given.items()}
    if given["configuration"] == "":
        raise DeclarationError(
            f"run {before.id[:8]} was given a run configuration made in Python: give it again, "
            "resume(..., configuration=...)"
        )
    return run(
        declared_again(stored),
        workspace=home,
        observers=observers,
        raise_on_failure=raise_on_failure,
        resume=before.id,
        **given,
    )
