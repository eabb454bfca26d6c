"""Graphs as networkx sees them, for users and for drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_pipes.model.graph import Graph, outputs_in

if TYPE_CHECKING:
    import networkx as nx


def to_networkx(graph: Graph) -> nx.MultiDiGraph[str]:
    """Return the graph as a ``networkx.MultiDiGraph``, for graph algorithms and drawing.

    Nodes are ids with ``step``, ``group`` and ``options``; edges run from producer to consumer. An edge's key is the
    parameter that it feeds, with the ``path`` of the part taken; one that only orders has the key ``None``.
    """
    import networkx as nx

    network: Any = nx.MultiDiGraph(name=graph.name)
    for node in graph.nodes.values():
        network.add_node(node.id, step=node.step.name, group=node.group, options=node.options)
    for node in graph.nodes.values():
        for parameter, binding in node.arguments.items():
            for output in outputs_in(binding):
                network.add_edge(output.node, node.id, parameter=parameter, path=output.path, kind="data")
        for other in (*node.after, *node.after_any):
            network.add_edge(other, node.id, parameter=None, path=(), kind="after")
    return network
