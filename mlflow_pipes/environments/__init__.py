"""Interpreters and packages that steps run with: found, locked, built once, kept.

``environments.Environments`` is the way in. Of each kind one module tells all that is in an environment before anything
is built (``resolve``), and makes it (``build``): ``interpreters``, ``requirements``, ``conda``, ``containers``.
``shelf`` holds what is built; ``launch`` starts a Python, and builds first what it is of.
See docs/adr/0016-environments-in-the-key.md.
"""

from __future__ import annotations

from mlflow_pipes.environments.environments import Environments
from mlflow_pipes.environments.shelf import Built, Recipe

__all__ = ["Built", "Environments", "Recipe"]
