"""Which target a step goes to, of all that name one."""

from dataclasses import replace

import pytest

from mlflow_pipes.model.graph import Growth, Output
from mlflow_pipes.model.growth import grafted
from mlflow_pipes.model.step import StepOptions
from mlflow_pipes.scheduling.routing import Routing, Rule
from mlflow_pipes.testing.scenarios import trivial_graph


def node(node_id="train", **options):
    found = trivial_graph({node_id: []}, options={node_id: StepOptions(**options)}).nodes[node_id]
    return replace(found, step=replace(found.step, name=node_id.partition("[")[0].rpartition("/")[2]))


RULE = Rule("by-rule", step="train*", source="nightly.toml: rules[1]")


@pytest.mark.parametrize(
    ("routing", "options", "target", "named_by"),
    [
        (Routing("usual"), {}, "usual", "the workspace"),
        (Routing("usual"), {"pipeline_target": "of-pipeline"}, "of-pipeline", "the pipeline"),
        (Routing("usual", rules=(RULE,)), {"pipeline_target": "of-pipeline"}, "by-rule", "nightly.toml: rules[1]"),
        (Routing("usual", "given", (RULE,)), {"pipeline_target": "of-pipeline"}, "given", "the call"),
        (Routing("usual", "given", (RULE,)), {"target": "own", "pipeline_target": "p"}, "own", "the step"),
    ],
)
def test_the_step_comes_before_the_call_before_rules_before_the_pipeline_before_the_workspace(
    routing, options, target, named_by
):
    assert routing.choice(node(**options)) == (target, named_by)


def test_the_first_rule_that_holds_counts():
    routing = Routing("usual", rules=(Rule("first", step="other"), Rule("second"), Rule("third")))
    assert routing.target_of(node()) == "second"


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({"step": "train"}, True),
        ({"step": "train*"}, True),
        ({"step": "prepare/*"}, True),
        ({"step": "prepare/train[depth=8]"}, True),
        ({"step": "tra"}, False),
        ({"step": "Train"}, False),
        ({"tags": {"size": "large"}}, True),
        ({"tags": {"size": "*"}}, True),
        ({"tags": {"size": "l*", "team": "delays"}}, False),
        ({"cpus": 4}, True),
        ({"cpus": 4.5}, False),
        ({"memory_bytes": 1 << 30}, True),
        ({"gpus": 1}, False),
        ({"step": "train", "tags": {"size": "small"}}, False),
    ],
)
def test_a_rule_holds_of_a_step_when_all_of_its_conditions_do(rule, holds):
    asked = node("prepare/train[depth=8]", cpus=4, memory_bytes=2 << 30, tags={"size": "large"})
    assert Rule("there", **rule).holds_of(asked) is holds


def test_calls_that_a_step_returned_stand_in_its_pipeline_unless_they_stand_in_another():
    inner = {"a": node("a"), "b": node("b", pipeline_target="inner")}
    growth = grafted(Growth(inner, {}, Output("a")), node("outer", target="small", pipeline_target="around"), ())
    assert [one.options.pipeline_target for one in growth.nodes.values()] == ["around", "inner"]
    assert Routing("usual").target_of(growth.nodes["outer/a"]) == "around", "not where the step itself ran"
