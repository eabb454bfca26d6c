"""Attempts on Spark: plain steps as tasks on executors, Spark steps beside the driver."""

from mlflow_pipes.targets.spark.target import SparkTarget

__all__ = ["SparkTarget"]
