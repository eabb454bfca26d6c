"""What code a step reaches: reads source and looks at live objects, runs nothing.

``code`` is the way in; ``link`` and ``read`` follow names, ``definitions`` says what each kind of thing contributes,
``reach`` makes the digest.
"""

from __future__ import annotations

from mlflow_pipes.model.step import CodeFingerprint

_MLFLOW = frozenset({"mlflow", "mlflow-skinny"})


def reaches_mlflow(code: CodeFingerprint) -> bool:
    """Whether a step's code can call ``mlflow``, so that its MLflow run must be ready before it starts."""
    return not _MLFLOW.isdisjoint(code.distributions)
