"""Models as MLflow model folders, written without importing MLflow where its layout is simple."""

from mlflow_pipes.content.model.signed import SignedModel

__all__ = ["SignedModel"]
