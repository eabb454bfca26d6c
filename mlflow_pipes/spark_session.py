"""The Spark session of the attempt that this process does, and which hints mean that a step wants one.

A target that has Spark says by an environment variable of the attempt where its session is; nothing of Spark is imported
before somebody asks for it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import TargetError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REMOTE = "PIPES_SPARK_REMOTE"
"""The environment variable that says where the attempt's session is, as Spark Connect's clients write it."""

_opened: dict[str, SparkSession] = {}


def active_session() -> SparkSession:
    """Return the Spark session of the attempt that this process does; the same one each time.

    Cost: half a second the first time in an attempt.

    Raises:
        TargetError: the attempt runs where there is no Spark, or its Spark cannot be reached.
    """
    remote = os.environ.get(REMOTE, "")
    if not remote:
        raise TargetError(
            "there is no Spark session here: run the step on a target of type spark, and have it ask for one by a "
            "parameter or result annotated with SparkSession or DataFrame of pyspark.sql"
        )
    found = _opened.get(remote)
    if found is None:
        close_session()  # of the attempt before
        found = _opened[remote] = _open(remote)
    return found


def close_session() -> None:
    """Give back what the last attempt of this process had; nothing when it had none."""
    while _opened:
        _, session = _opened.popitem()
        session.client.close()


def session_parameters(parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parameters that are given the target's session when the caller gives them nothing."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if is_session(hints.get(name)) and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    )


def is_session(hint: Any) -> bool:
    """Tell whether a hint is Spark's session class; imports nothing."""
    return _is_of_spark(hint, "SparkSession")


def is_frame(hint: Any) -> bool:
    """Tell whether a hint is Spark's class of data frames; imports nothing."""
    return _is_of_spark(hint, "DataFrame")


def _is_of_spark(hint: Any, name: str) -> bool:
    return (
        isinstance(hint, type)
        and hint.__name__ == name
        and (hint.__module__ == "pyspark.sql" or hint.__module__.startswith("pyspark.sql."))
    )


def _open(remote: str) -> SparkSession:
    try:
        from pyspark.sql.connect.session import SparkSession as Remote
    except ImportError as error:
        raise TargetError(
            f"the Spark session cannot be used by this interpreter ({error}): pip install 'mlflow_pipes[spark]'"
        ) from error
    try:
        session: SparkSession = Remote.builder.remote(remote).create()
    except Exception as error:
        raise TargetError(f"the Spark session of this attempt cannot be opened: {error}") from error
    return session
