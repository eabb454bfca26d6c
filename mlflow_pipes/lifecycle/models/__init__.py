"""Models outside of runs: their identity as folders, and MLflow's model registry. Cheap to import."""

from mlflow_pipes.lifecycle.models.folder import model_digest
from mlflow_pipes.lifecycle.models.registry import CHAMPION, ModelRegistry
from mlflow_pipes.lifecycle.models.version import Mode, ModelVersion, is_better, value_of

__all__ = ["CHAMPION", "Mode", "ModelRegistry", "ModelVersion", "is_better", "model_digest", "value_of"]
