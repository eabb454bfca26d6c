"""Laws of scheduling (``mlflow_pipes/testing/laws.py``), over random graphs, faults and orders of events."""

import random
from dataclasses import replace as replaced

import networkx as nx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.graph import GroupNode
from mlflow_pipes.model.run import Status
from mlflow_pipes.model.step import RetryPolicy, StepOptions
from mlflow_pipes.scheduling.policy import critical_path_s, retry_delay_s
from mlflow_pipes.testing.scenarios import Cancel, Faults, Scenario, Task, as_python, scenario_of
from mlflow_pipes.testing.shrinking import law_of, shrunk
from mlflow_pipes.testing.simulate import main, replay_of
from mlflow_pipes.testing.simulator import Simulation, broken_laws


@st.composite
def edges(draw, most=18):
    count = draw(st.integers(1, most))
    found = {}
    for index in range(count):
        parents = draw(st.sets(st.integers(0, max(0, index - 1)), max_size=4)) if index else set()
        found[f"n{index}"] = [f"n{parent}" for parent in sorted(parents)]
    return found


probabilities = st.sampled_from([0.0, 0.1, 0.4])
faults = st.builds(
    Faults,
    fail=probabilities,
    lost=probabilities,
    hit=probabilities,
    held=st.sampled_from([0.0, 0.3]),
    duplicate=probabilities,
    late=probabilities,
    lost_input=st.sampled_from([0.0, 0.2]),
    unreadable=st.sampled_from([0.0, 0.0, 0.1]),
    grow=st.sampled_from([0.0, 0.0, 0.3, 0.6]),
    slow=st.sampled_from([0.0, 0.2]),
)


@settings(deadline=None, max_examples=75)
@given(edges=edges(), faults=faults, seed=st.integers(0, 10_000), slots=st.integers(1, 4), fail_fast=st.booleans())
@example(  # a lost output whose own input could not be made again
    edges={"n0": [], "n1": ["n0"], "n2": [], "n3": ["n0", "n2"], "n4": ["n3"], "n5": [], "n6": ["n0", "n1", "n2", "n3"],
           "n7": ["n0", "n4"], "n8": ["n0"]},
    faults=Faults(lost=0.1, lost_input=0.2), seed=393, slots=3, fail_fast=False,
)  # fmt: skip
def test_whatever_goes_wrong_no_law_breaks(edges, faults, seed, slots, fail_fast):
    rng = random.Random(seed)
    tasks = [
        Task(
            node, tuple(parents), tuple(parent for parent in parents if rng.random() < 0.2),
            seconds=rng.uniform(0.1, 2.0),
            options=StepOptions(
                cpus=rng.choice([0.5, 1.0]),
                retries=RetryPolicy(count=rng.randrange(3), delay_s=0.1),
                optional=rng.random() < 0.2,
                max_parallel=rng.choice([None, 1, 2]),
                total_timeout_s=rng.choice([None, None, 1.0, 5.0]),
            ),
        )
        for node, parents in edges.items()
    ]  # fmt: skip
    hooks = [Task(f"hook-{time}", hook=time) for time in ("on_success", "on_failure", "always") if rng.random() < 0.3]
    cancels = [Cancel(at) for at in (0.0, 1.5, 4.0) if rng.random() < 0.1]
    cancels += [Cancel(at, rng.choice(tasks).name) for at in (0.5, 2.0) if rng.random() < 0.2]
    scenario = Scenario(
        seed, (*tasks, *hooks), capacities={"local": Capacity(slots, slots=slots)}, faults=faults, fail_fast=fail_fast,
        max_parallel=rng.choice([None, None, 1, 3]), cancels=tuple(cancels),
        starts=rng.choice([(0.0,), (0.0,), (0.0, 1.0)]), crashes=rng.choice([(), (), (20,)]),
    )  # fmt: skip
    assert broken_laws(scenario) == [], replay_of(scenario)


def test_the_first_four_hundred_seeds_break_no_law():
    """Ten thousand are in tests/integration/simulation."""
    broken = {seed: laws for seed in range(400) if (laws := broken_laws(scenario_of(seed)))}
    assert broken == {}, f"python -m mlflow_pipes.testing.simulate --seed {min(broken)}"


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_the_same_scenario_goes_the_same_way(seed):
    def told():
        lines = []
        Simulation(scenario_of(seed), log=lines.append).run()
        return lines

    assert told() == told()


def work_and_longest_path_s(orchestrator, tasks):
    """Return the work in a run, and the length of its longest path, in the graph as it had unfolded at the end.

    An attempt that returned calls is a node before them; their ends together are one that takes no time.
    """
    took = {node: end - start for node, _, start, end in orchestrator.spans}
    dag = nx.DiGraph()
    for node in orchestrator.witness.nodes.values():
        dag.add_edge((node.id, "begin"), (node.id, "end"))
        dag.add_edges_from(((parent, "end"), (node.id, "begin")) for parent in node.parents)
        if node.group is not None:
            dag.add_edges_from([((node.group, "begin"), (node.id, "begin")), ((node.id, "end"), (node.group, "end"))])
    for group in orchestrator.witness.groups.values():
        dag.add_edges_from([((group.group, "begin"), (group.id, "begin")), ((group.id, "end"), (group.group, "end"))])
    over = {}
    for node, side in nx.topological_sort(dag):
        before = max((over[other] for other in dag.predecessors((node, side))), default=0.0)
        grown = node in orchestrator.grown
        over[node, side] = before + (took.get(node, 0.0) if (side == "begin") == grown else 0.0)
    return sum(took.values()), max(over.values())


@settings(deadline=None, max_examples=60)
@given(
    edges=edges(most=30),
    seed=st.integers(0, 10_000),
    slots=st.integers(1, 6),
    limit=st.sampled_from([None, None, 1, 2]),
    grow=st.sampled_from([0.0, 0.3, 0.6]),
)
def test_the_makespan_is_within_grahams_bound_also_when_the_graph_grows(edges, seed, slots, limit, grow):
    """For every greedy schedule: work / slots + (1 - 1 / slots) * longest path, in the graph as it has unfolded.

    Graham's proof asks only that no slot is idle while something could run, not that the graph is known before.
    """
    rng = random.Random(seed)
    tasks = tuple(Task(node, tuple(parents), seconds=rng.uniform(0.1, 3.0)) for node, parents in edges.items())
    scenario = Scenario(
        seed, tasks, capacities={"local": Capacity(100.0, slots=slots)}, faults=Faults(grow=grow), max_parallel=limit
    )
    simulation = Simulation(PlainGrowth(**{name: getattr(scenario, name) for name in Scenario.__dataclass_fields__}))
    (run,) = simulation.run().orchestrators
    assert simulation.broken == []
    work_s, longest_s = work_and_longest_path_s(run, tasks)
    machines = min(slots, limit or slots)
    makespan_s = max(end for *_, end in run.spans)
    assert longest_s - 1e-6 <= makespan_s <= work_s / machines + (1 - 1 / machines) * longest_s + 1e-6


class PlainGrowth(Scenario):
    """A scenario in which only the run as a whole is limited."""

    def calls_of(self, name, key):
        calls = super().calls_of(name, key)
        if calls is None:
            return None
        tasks, _ = calls
        return tuple(replaced(task, group=name, options=StepOptions()) for task in tasks), ()


@settings(deadline=None, max_examples=30)
@given(edges=edges(), seed=st.integers(0, 1_000), fail=st.sampled_from([0.0, 0.3]))
def test_a_group_ends_when_all_in_it_has_ended_with_the_worst_of_their_statuses(edges, seed, fail):
    rng = random.Random(seed)
    tasks = tuple(
        Task(node, tuple(parents), group=rng.choice([None, "outer", "inner"])) for node, parents in edges.items()
    )
    groups = (GroupNode("outer", "outer"), GroupNode("inner", "inner", group="outer"))
    scenario = Scenario(seed, tasks, groups, faults=Faults(fail=fail, lost_input=0.1), fail_fast=False)
    (run,) = Simulation(scenario).run().orchestrators
    inside = [run.witness.status[task.name] for task in tasks if task.group]
    assert run.witness.status["outer"].ended
    assert (run.witness.status["outer"] is Status.FAILED) == (Status.FAILED in inside)


def test_a_step_bigger_than_its_target_is_refused_before_anything_runs():
    scenario = Scenario(tasks=(Task("train", options=StepOptions(cpus=8)),), capacities={"local": Capacity(2)})
    (broken,) = broken_laws(scenario)
    assert ConfigurationError.__name__ in broken
    assert "'train' asks for cpus=8, but target 'local' has 2 cpus" in broken


def test_ten_thousand_steps_are_scheduled_in_linear_time():
    middle = tuple(Task(f"n{i}", ("first",)) for i in range(10_000))
    last = Task("last", tuple(task.name for task in middle))
    scenario = Scenario(tasks=(Task("first"), *middle, last), capacities={"local": Capacity(2, slots=2)})
    (run,) = Simulation(scenario).run(events_at_most=100_000).orchestrators
    assert run.witness.finished is Status.SUCCEEDED
    assert len(run.spans) == 10_002


# --- the laws themselves, and what is said of a seed that breaks one -------------------------------------------------


def too_late(scenario):
    """Return a law that the machine does not hold, to have something to shrink."""
    run = Simulation(scenario).run().orchestrators[0]
    late = [node for node, _, _, end in run.spans if end > 3.0]
    return [f"early: {late[0]} ends after 3 s"] if late else broken_laws(scenario)


def test_a_shrunk_scenario_breaks_the_same_law_and_nothing_can_be_taken_from_it():
    large = next(scenario for scenario in map(scenario_of, range(50)) if law_of(too_late(scenario)) == "early")
    small = shrunk(large, too_late)
    assert law_of(too_late(small)) == "early"
    assert len(as_python(small)) < len(as_python(large)) / 4
    assert shrunk(small, too_late) == small
    assert shrunk(Scenario(tasks=(Task("a"),))) == Scenario(tasks=(Task("a"),)), "nothing broke, nothing to shrink"


@pytest.mark.parametrize("seed", range(0, 60, 7))
def test_a_scenario_told_as_python_is_the_same_scenario(seed, capsys):
    found = {}
    exec(replay_of(scenario_of(seed)), found)
    assert found["scenario"] == scenario_of(seed)
    assert capsys.readouterr().out.endswith("[]\n")


def test_the_command_tells_figures_or_the_whole_of_one_seed(capsys):
    assert main(["--seeds", "20", "--from", "5"]) == 0
    figures = capsys.readouterr().out
    assert figures.startswith("20 seeds in ")
    assert figures.endswith("every law held\n")
    assert main(["--seed", "5"]) == 0
    assert "Submit(" in capsys.readouterr().out


def test_the_critical_path_counts_a_node_and_all_below_it():
    order, children = ["a", "b", "c"], {"a": ["b", "c"]}
    assert critical_path_s(order, children, {"a": 1.0, "b": 5.0}, 2.0) == {"a": 6.0, "b": 5.0, "c": 2.0}


@given(failures=st.integers(1, 500), chance=st.floats(0, 0.999), jitter=st.floats(0, 1))
def test_the_wait_before_a_retry_is_never_negative_nor_beyond_its_bound(failures, chance, jitter):
    policy = RetryPolicy(count=1, delay_s=1.0, max_delay_s=60.0, jitter=jitter)
    assert 0.0 <= retry_delay_s(policy, failures, chance) <= 60.0 * (1 + jitter)
