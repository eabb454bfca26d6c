"""Data frames of a real Spark, by Spark Connect: executors write and read the parts."""

import datetime as dt
import importlib
import os
import textwrap
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlflow_pipes import Workspace, run, spark_session
from mlflow_pipes.content import ComputingError, blob_error_in, blobs_of, describe, load, store
from mlflow_pipes.errors import UnstorableOutputError
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.workspace.records import Status
from tests import spark_cluster

if reason := spark_cluster.missing():
    pytest.skip(reason, allow_module_level=True)

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support:FutureWarning"),
]


@pytest.fixture(scope="module")
def server():
    server = spark_cluster.ConnectServer()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def session(server):
    """A session as an attempt has one."""
    with pytest.MonkeyPatch.context() as context:
        context.setenv(spark_session.REMOTE, server.master)
        yield spark_session.active_session()
        spark_session.close_session()


@pytest.fixture
def datastore(tmp_path):
    return LocalDatastore(tmp_path / "datastore")


def numbers(session, rows, parts):
    n = f.col("id")
    return session.range(0, rows, 1, parts).select(
        n.alias("n"),
        f.when(n % 3 > 0, n.cast("string")).alias("text"),
        (n % 2 == 0).alias("even"),
        f.timestamp_seconds(n).alias("at"),
        f.array(n, n + 1).alias("pair"),
        (n / 4).cast("decimal(10,2)").alias("money"),
        f.struct(n.alias("a"), f.lit(None).cast("string").alias("b")).alias("both"),
    )


def test_a_frame_is_the_same_table_however_it_is_divided_and_in_whatever_zone(session, datastore):
    artifact = store(numbers(session, 100, 3), datastore)
    assert len(blobs_of(artifact, datastore)) == 4
    assert describe(artifact) == "table 100 × 7 in parts (pyspark)"  # noqa: RUF001
    session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    shuffled = store(numbers(session, 100, 2).orderBy(f.col("n").desc()), datastore)
    session.conf.unset("spark.sql.session.timeZone")
    assert shuffled.identity == artifact.identity
    assert shuffled.layout != artifact.layout
    assert store(numbers(session, 101, 3), datastore).identity != artifact.identity

    table = load(artifact, datastore, pa.Table)
    assert table["n"].to_pylist() == list(range(100))
    assert table["money"][3].as_py() == Decimal("0.75")
    assert table["at"][5].as_py() == dt.datetime(1970, 1, 1, 0, 0, 5, tzinfo=dt.UTC)
    assert load(artifact, datastore, pd.DataFrame)["text"].isna().sum() == 34

    again = load(artifact, datastore, DataFrame)
    assert again.dtypes == numbers(session, 1, 1).dtypes
    assert store(again, datastore).identity == artifact.identity
    assert again.where("even").agg(f.sum("n")).first()[0] == sum(range(0, 100, 2))


def test_other_tables_are_given_as_spark_frames(session, datastore):
    frame = pd.DataFrame(
        {
            "n": np.arange(5000, dtype=np.uint8),
            "kind": pd.Categorical(["a", None, "b", "b", "a"] * 1000),
            "at": pd.date_range("2020-07-01", periods=5000, tz="Europe/Berlin"),
        }
    )
    found = load(store(frame, datastore), datastore, DataFrame)
    assert found.dtypes == [("n", "smallint"), ("kind", "string"), ("at", "timestamp")]
    assert found.agg(f.sum("n"), f.count("kind")).first()[:] == (int(frame["n"].sum()), 4000)
    small = load(store(pa.table({"x": [1, None]}), datastore), datastore, DataFrame)
    assert [row.x for row in small.collect()] == [1, None]
    dask = pytest.importorskip("dask.dataframe")
    parts = store(dask.from_pandas(frame, npartitions=3), datastore)
    assert load(parts, datastore, DataFrame).where("kind = 'b'").count() == 2000
    back = load(store(load(parts, datastore, DataFrame), datastore), datastore, dask.DataFrame)
    assert back["n"].sum().compute() == frame["n"].sum()


def test_a_table_without_rows_keeps_its_columns(session, datastore):
    nothing = store(numbers(session, 10, 2).where("n > 100"), datastore)
    assert nothing.identity == store(numbers(session, 20, 1).where("n > 100"), datastore).identity
    assert load(nothing, datastore, DataFrame).columns == numbers(session, 1, 1).columns
    assert load(nothing, datastore, pd.DataFrame).empty


def test_what_fails_on_executors_says_whose_it_is(session, datastore):
    @f.udf("bigint")
    def divided(number):
        return 1 // (number - 7)

    with pytest.raises(ComputingError) as raised:
        store(session.range(10).select(divided("id").alias("x")), datastore)
    assert "ZeroDivisionError" in str(raised.value.cause)
    with pytest.raises(UnstorableOutputError, match=r"several columns 'id'.*toDF"):
        store(session.range(3).select("id", "id"), datastore)

    artifact = store(numbers(session, 100, 2), datastore)
    again = load(artifact, datastore, DataFrame)
    part = max(blobs_of(artifact, datastore) - {artifact.layout})
    file = datastore.path(part)
    file.chmod(0o600)
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(Exception, match="Blob") as spoilt:
        again.count()
    lost = blob_error_in(spoilt.value)
    assert lost is not None
    assert lost.blob == str(part)


FLOW = """
    import pandas as pd
    from mlflow_pipes import pipeline, step
    from pyspark.sql import DataFrame, SparkSession

    def doubled(batches):
        for batch in batches:
            yield batch.assign(id=batch["id"] * 2)

    @step(target="spark")
    def made(rows: int, parts: int, session: SparkSession) -> DataFrame:
        return session.range(0, rows, 1, parts).mapInPandas(doubled, "id long")

    @step(target="inline")
    def total(frame: pd.DataFrame) -> int:
        return int(frame["id"].sum())

    @pipeline
    def in_spark(rows: int, parts: int):
        return total(made(rows, parts))
"""


def test_steps_hand_frames_over_and_executors_have_their_code(server, tmp_path):
    (tmp_path / "flow_of_spark_frames.py").write_text(textwrap.dedent(FLOW))
    (tmp_path / "pipes.toml").write_text(f'[targets.spark]\ntype = "spark"\nmaster = "{server.master}"\n')
    with pytest.MonkeyPatch.context() as context, Workspace.open(tmp_path / ".pipes") as workspace:
        context.syspath_prepend(tmp_path)
        flow = importlib.import_module("flow_of_spark_frames")
        assert run(flow.in_spark(100, 2), workspace=workspace).output() == 2 * sum(range(100))
        again = run(flow.in_spark(100, 3), workspace=workspace)
        assert [step.status for step in again.steps] == [Status.SUCCEEDED, Status.REUSED]
