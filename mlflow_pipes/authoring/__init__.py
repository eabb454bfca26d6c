"""Declaration: ``@step``, ``@pipeline``, ``OutputRef``, and ``graph_of`` that makes a graph of what was declared."""

from mlflow_pipes.authoring.graphs import graph_of
from mlflow_pipes.authoring.mapping import each
from mlflow_pipes.authoring.networks import to_networkx
from mlflow_pipes.authoring.pipeline import Pipeline, PipelineCall, pipeline
from mlflow_pipes.authoring.reference import OutputRef, allow_failure
from mlflow_pipes.authoring.step import Step, step

__all__ = [
    "OutputRef",
    "Pipeline",
    "PipelineCall",
    "Step",
    "allow_failure",
    "each",
    "graph_of",
    "pipeline",
    "step",
    "to_networkx",
]
