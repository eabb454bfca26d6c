"""Which compute target each step goes to: what the step says, else the call, a rule, the pipeline, the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from typing import NamedTuple

from mlflow_pipes.model.graph import StepNode
from mlflow_pipes.quick_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """Sends steps to a target: those that all of its conditions hold of.

    Attributes:
        target: where they go.
        step: pattern of the step's name, or of its id in the run: ``train*``, ``prepare/*``.
        tags: patterns of the step's tags, by name.
        cpus, memory_bytes, gpus: the step asks for so much at least.
        source: where the rule is written, for people.
    """

    target: str
    step: str = "*"
    tags: Mapping[str, str] = field(default_factory=dict)
    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0
    source: str = "a rule"

    def holds_of(self, node: StepNode) -> bool:
        """Tell whether the rule is meant for a step.

        >>> Rule("cluster", step="train*").source
        'a rule'
        """
        options = node.options
        return (
            options.cpus >= self.cpus
            and options.memory_bytes >= self.memory_bytes
            and options.gpus >= self.gpus
            and (_matches(self.step, node.step.name) or _matches(self.step, node.id))
            and all(tag in options.tags and _matches(text, options.tags[tag]) for tag, text in self.tags.items())
        )


class Choice(NamedTuple):
    """A step's target, and what named it."""

    target: str
    named_by: str


@dataclass(frozen=True, slots=True)
class Routing:
    """Where the steps of one run go. The first of these that says something names the target.

    1. the step itself, or its call: ``@step(target=...)``, ``train.options(target=...)``;
    2. *given*: what ``run(target=...)`` or ``--target`` says;
    3. the first of *rules* that holds of it;
    4. the innermost pipeline around it that names one: ``@pipeline(target=...)``; calls that a step returned stand in
       the pipeline that the step stands in;
    5. *default*.

    Attributes:
        default_source: what named the default, for people.
    """

    default: str
    given: str | None = None
    rules: tuple[Rule, ...] = ()
    default_source: str = "the workspace"

    @property
    def usual(self) -> str:
        """Where steps go of which nothing is said."""
        return self.given or self.default

    @property
    def fallback(self) -> Choice:
        """Where steps go whose target nobody named."""
        return Choice(self.default, self.default_source)

    def target_of(self, node: StepNode) -> str:
        """Return the name of a step's target."""
        return self.choice(node).target

    def choice(self, node: StepNode) -> Choice:
        """Return a step's target and why it is that. Cost: O(rules)."""
        options = node.options
        if options.target is not None:
            return Choice(options.target, "the step")
        if self.given is not None:
            return Choice(self.given, "the call")
        for rule in self.rules:
            if rule.holds_of(node):
                return Choice(rule.target, rule.source)
        if options.pipeline_target is not None:
            return Choice(options.pipeline_target, "the pipeline")
        return self.fallback


def _matches(pattern: str, text: str) -> bool:
    """Tell whether a text is the pattern, or is matched by it: ``train[depth=8]`` is taken as it stands, too."""
    return pattern in ("*", text) or fnmatchcase(text, pattern)
