"""What outlives a run: models in a registry, and the web services that serve them. Cheap to import."""

from mlflow_pipes.lifecycle.models import CHAMPION, Mode, ModelRegistry, ModelVersion, is_better, model_digest, value_of
from mlflow_pipes.lifecycle.services import Service, ServiceRegistry, ServiceStatus, plain

__all__ = [
    "CHAMPION",
    "Mode",
    "ModelRegistry",
    "ModelVersion",
    "Service",
    "ServiceRegistry",
    "ServiceStatus",
    "is_better",
    "model_digest",
    "plain",
    "value_of",
]
