"""The Spark session of the attempt that this process does, and which hints mean that a step wants one.

A target that has Spark says by an environment variable of the attempt where its session is; nothing of Spark is
imported before somebody asks for it.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

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
        with suppress(Exception):  # the driver forgets it by itself
            session.client.release_session()
            session.client.close()


def session_parameters(parameters: Iterable[inspect.Parameter]) -> frozenset[str]:
    """Return the parameters that are given the target's session when the caller gives them nothing.

    Told by what is written at them, so that the name may be imported for type checkers only.
    """
    return frozenset(
        one.name
        for one in parameters
        if one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
        and (one.default is one.empty or one.default is None)
        and _is_session(one.annotation)
    )


def mentions_frames(hint: Any) -> bool:
    """Tell whether values that a hint allows have data frames of Spark's in them; imports nothing."""
    return _is_of_spark(hint, "DataFrame") or any(map(mentions_frames, get_args(hint)))


def _is_session(annotation: Any) -> bool:
    if isinstance(annotation, str):
        options = [one.strip() for one in annotation.strip("\"'").split("|")]
        return any(one.rpartition(".")[2] == "SparkSession" for one in options)
    return any(_is_of_spark(one, "SparkSession") for one in (annotation, *get_args(annotation)))


def _is_of_spark(hint: Any, name: str) -> bool:
    return (
        isinstance(hint, type)
        and hint.__name__ == name
        and (hint.__module__ == "pyspark.sql" or hint.__module__.startswith("pyspark.sql."))
    )


def _open(remote: str) -> SparkSession:
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise TargetError(
            f"the Spark session cannot be used by this interpreter ({error}): pip install 'mlflow_pipes[spark]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
            session: SparkSession = SparkSession.builder.remote(remote).create()
    except Exception as error:
        raise TargetError(f"the Spark session of this attempt cannot be opened: {error}") from error
    return session
