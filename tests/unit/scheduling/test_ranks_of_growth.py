"""Calls that a step returned are as urgent as what waits for that step; the most urgent step begins first."""

from collections import deque

from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.messages import Conclude, Concluded, Grew, LookUpNode, Submit, Succeeded, ToDo
from mlflow_pipes.scheduling.policy import critical_path_s
from mlflow_pipes.scheduling.state import RunState
from mlflow_pipes.testing.scenarios import trivial_graph


def ranks(edges, estimates):
    children = {}
    for node, parents in edges.items():
        for parent in parents:
            children.setdefault(parent, []).append(node)
    return critical_path_s(list(edges), children, estimates, 1.0)


def order_of(edges, estimates, growth, options=None):
    """Run on one slot, where look-ups are answered before steps end; *growth*: calls that steps are known to return."""
    graph = trivial_graph(edges, options=options)
    state = RunState(
        graph, {"t": Capacity(1, slots=1)}, dict.fromkeys(edges, "t"), ranks(edges, estimates), lambda: 0.5
    )
    order, soon, later = [], deque(), deque()
    commands = state.begin(0.0)
    while True:
        for command in commands:
            match command:
                case LookUpNode(node) if node in growth:
                    soon.append(known_to_return(node, growth[node], estimates))
                case LookUpNode(node):
                    soon.append(ToDo(node))
                case Conclude(node):
                    soon.append(Concluded(node))
                case Submit(node, number, _):
                    order.append(node)
                    later.append(Succeeded(node, number))
        if not (soon or later):
            assert state.finished
            return order
        commands = state.handle((soon or later).popleft(), 0.0)


def known_to_return(node, edges, estimates):
    calls = trivial_graph(edges, groups=dict.fromkeys(edges, node)).nodes
    return Grew(node, None, calls, {}, dict.fromkeys(edges, "t"), ranks(edges, estimates))


ESTIMATES = {"busy": 200.0, "long": 50.0, "tail": 100.0}
EDGES = {"busy": (), "grows": (), "long": (), "tail": ("grows",)}


def test_calls_that_much_hangs_on_go_before_a_longer_step_that_nothing_hangs_on():
    order = order_of(EDGES, ESTIMATES, {"grows": {"grows/a": ()}})
    assert order.index("grows/a") < order.index("long")


def test_calls_that_nothing_hangs_on_go_by_their_own_length():
    edges = {"busy": (), "grows": (), "long": ()}
    assert order_of(edges, ESTIMATES, {"grows": {"grows/a": ()}}) == ["busy", "long", "grows/a"]


def test_what_hangs_on_the_outermost_step_counts_for_calls_of_calls():
    growth = {"grows": {"grows/a": ()}, "grows/a": {"grows/a/b": ()}}
    order = order_of(EDGES, ESTIMATES, growth)
    assert order.index("grows/a/b") < order.index("long")


def test_among_returned_calls_the_longest_chain_goes_first():
    calls = {"grows/short": (), "grows/head": (), "grows/rest": ("grows/head",)}
    estimates = {"busy": 200.0, "grows/short": 5.0, "grows/head": 1.0, "grows/rest": 9.0}
    order = order_of({"busy": (), "grows": ()}, estimates, {"grows": calls})
    assert order[:2] == ["busy", "grows/head"]


def test_of_steps_that_are_ready_at_once_the_most_urgent_begins_first():
    edges = {"a": (), "b": (), "c": (), "d": ("c",)}
    assert order_of(edges, {"a": 1.0, "b": 2.0, "c": 1.0, "d": 5.0}, {})[:2] == ["c", "b"]
    urgent = {"a": StepOptions(priority=1)}
    assert order_of(edges, {"d": 5.0}, {}, urgent)[0] == "a"


def test_of_the_children_of_one_step_the_most_urgent_begins_first():
    edges = {"top": (), "short": ("top",), "long": ("top",)}
    assert order_of(edges, {"long": 9.0, "short": 1.0}, {}) == ["top", "long", "short"]
