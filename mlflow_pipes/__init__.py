"""Pipelines of plain Python functions: content-hashed, reused, recorded in MLflow."""
