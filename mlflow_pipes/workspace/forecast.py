"""``simulate``: how long a run would take on targets of other sizes, by the real scheduler and recorded durations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from mlflow_pipes.authoring import graph_of
from mlflow_pipes.model.graph import Graph
from mlflow_pipes.quick_dataclasses import dataclass
from mlflow_pipes.scheduling.forecast import Schedule, schedule
from mlflow_pipes.workspace.expected import Expected, expected
from mlflow_pipes.workspace.planning import plan_graph
from mlflow_pipes.workspace.situation import NamedConfiguration, Situation, called, loaded, situation_of
from mlflow_pipes.workspace.sizes import Size, capacities_for, default_target
from mlflow_pipes.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a run would take, if nothing failed and every step took as long as it is expected to.

    Attributes:
        schedule: when each step would run, the critical path, the lower bounds, how each target is used.
        default_target: where steps run that name none.
        reused: how many steps would be reused, which takes no time.
        perhaps: how many of the others may turn out to be reused, because the outputs above them come out the same.
        sources: how many of those that run have a recorded duration (``node``), one taken from other calls of the
            same step (``step``), or none: a ``guess``.
        guess_s: seconds taken for each node guessed.
        timeout_s: of the pipeline, when the run would be stopped before its end; else None.
    """

    pipeline: str
    schedule: Schedule
    default_target: str
    reused: int
    perhaps: int
    sources: Mapping[str, int]
    guess_s: float
    timeout_s: float | None = None

    @property
    def makespan_s(self) -> float:
        """Seconds from the run's beginning to its end."""
        return self.schedule.makespan_s

    @property
    def at_best_s(self) -> float:
        """Seconds below which no order of steps could come on these targets."""
        return max(self.schedule.longest_path_s, self.schedule.work_bound_s)


@dataclass(frozen=True)
class Outlook:
    """What a run would have to do now; asked once, then forecast for any number of sizes.

    Attributes:
        expected: duration of each node.
        estimates: what the scheduler of a real run would believe of them.
        situation: where steps go, and what targets and tokens there are.
        known: nodes that would be reused.
        perhaps: nodes of which it depends on outputs above them.
    """

    graph: Graph
    situation: Situation
    expected: Expected
    estimates: Mapping[str, float]
    known: frozenset[str] = field(default_factory=frozenset)
    perhaps: frozenset[str] = field(default_factory=frozenset)

    def on(self, targets: Mapping[str, Size]) -> Forecast:
        """Return the forecast for targets of these sizes; those not among them are as configured.

        Raises:
            ConfigurationError: a size is wrong, or a step asks for more than its target has.
        """
        configuration, usual = self.situation.configuration, self.situation.routing
        default = default_target(self.graph, targets, usual)
        capacities, target_of = capacities_for(
            self.graph, targets, configuration.targets, replace(usual, default=default)
        )
        found = schedule(
            self.graph,
            capacities=capacities,
            target_of=target_of,
            durations=self.expected.seconds,
            estimates=self.estimates,
            known=self.known,
            tokens=configuration.tokens,
        )
        timeout_s = self.graph.timeout_s
        runs = [node for node in self.graph.nodes if node not in self.known]
        return Forecast(
            pipeline=self.graph.name,
            schedule=found,
            default_target=default,
            reused=len(self.known),
            perhaps=len(self.perhaps),
            sources=Counter(self.expected.sources[node] for node in runs),
            guess_s=self.expected.guess_s,
            timeout_s=timeout_s if timeout_s is not None and found.makespan_s > timeout_s else None,
        )


def simulate(
    call: Any,
    *,
    targets: Mapping[str, Size] | None = None,
    workspace: Workspace | str | Path | None = None,
    configuration: NamedConfiguration | None = None,
    cold: bool = False,
    guess_s: float | None = None,
) -> Forecast:
    """Return how long running *call* would take on targets of given sizes. Runs nothing and stores nothing.

    The scheduler of real runs is driven by a clock that does not wait, with the durations that the ledger has of each
    step. Starting workers and moving bytes take no time here, nothing fails, and as many steps run as are declared: a
    step that returns calls of further steps counts as one, for as long as it took with these.

    Args:
        call: what calling a pipeline or a step returned.
        targets: size of each target by name: a number of workers, or ``{"cpus": 8, "memory": "64GiB"}``. Those not
            told are as configured. One that no step names takes the steps that name none.
        workspace: as for ``run``.
        configuration: as for ``run``.
        cold: as if nothing could be reused.
        guess_s: seconds to take for steps of which nothing is known; by default the mean of the others.

    Raises:
        DeclarationError: the graph is wrong.
        ConfigurationError: a size is wrong, or a step asks for more than its target has.
    """
    ahead = outlook(call, workspace=workspace, configuration=configuration, cold=cold, guess_s=guess_s)
    return ahead.on(targets or {})


def outlook(
    call: Any,
    *,
    workspace: Workspace | str | Path | None = None,
    configuration: NamedConfiguration | None = None,
    cold: bool = False,
    guess_s: float | None = None,
) -> Outlook:
    """Return what ``simulate`` needs to know, for forecasts of several sizes; arguments as of ``simulate``."""
    home = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    chosen = loaded(configuration, home.configuration)
    graph = graph_of(called(call, chosen))
    actions = (
        {} if cold else {step.node: step.action for step in plan_graph(graph, home).steps if step.node in graph.nodes}
    )
    estimates = home.ledger.estimates(graph.name)
    return Outlook(
        graph,
        situation_of(home.configuration, chosen),
        expected(
            graph,
            took=home.runs.timings.took(graph.name),
            estimates=estimates,
            guess_s=guess_s,
        ),
        estimates,
        known=frozenset(node for node, action in actions.items() if action == "reuse"),
        perhaps=frozenset(node for node, action in actions.items() if action == "maybe-run"),
    )
