"""The ledger's tables, portable between SQLite and PostgreSQL.

Maps, lists and artifacts are compact JSON texts: they are read whole, never searched. Times are seconds since the
epoch, UTC. ``revision`` is drawn from one counter of the whole ledger, so "what changed since" is a range of an index.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

# The newest migration's id. A test holds it equal to Alembic's head.
SCHEMA_VERSION = "0005"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Alembic's own table; written without importing Alembic when a database is made.
schema_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))

# One row (id 1). Every writing exchange increments it first, which also makes writers take turns.
counters = Table(
    "counters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("experiment", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("parameters", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("git_commit", Text, nullable=False),
    Column("git_branch", Text, nullable=False),
    Column("git_remote", Text, nullable=False),
    Column("git_dirty", Boolean, nullable=False),
    Column("file", Text, nullable=False),
    Column("doc", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("output", Text),
    Column("message", Text, nullable=False),
    Column("heartbeat_at", Double, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("revision", BigInteger),
    Column("resumed_from", String(32)),
    # The first of the runs that resumed each other; NULL in itself.
    Column("first_run_id", String(32)),
)
Index("ix_runs_pipeline_started_at", runs.c.pipeline, runs.c.started_at)
Index("ix_runs_started_at", runs.c.started_at)
Index("ix_runs_revision", runs.c.revision)
_PARTIAL = [
    Index("ix_runs_unended", runs.c.run_id, sqlite_where=text("ended_at IS NULL")),
    Index("ix_runs_first_run_id", runs.c.first_run_id, sqlite_where=text("first_run_id IS NOT NULL")),
]

# How to declare a run's call again; apart from runs, which are often read whole.
calls = Table(
    "calls",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("file", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("given", Text, nullable=False),
    Column("arguments", LargeBinary, nullable=False),
    Column("problem", Text, nullable=False),
)

# What others want to stop: a step or sub-pipeline by its node; the run itself under the empty name, for the reason.
cancel_requests = Table(
    "cancel_requests",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("node", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
)

step_runs = Table(
    "step_runs",
    metadata,
    Column("step_run_id", String(32), primary_key=True),
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), nullable=False),
    Column("node", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("parent_id", String(32), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("parents", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("key", String(64)),
    Column("code", String(64)),
    Column("inputs", Text),
    Column("output", Text),
    Column("reused_from", String(32)),
    Column("reason", Text),
    Column("target", Text),
    Column("worker", Text),
    Column("attempts", Integer),
    # NULL until it has something to show in MLflow.
    Column("revision", BigInteger),
    # reuse="never"; NULL where an older version did not say.
    Column("effect", Boolean),
    # Who named its target, in words; NULL where nobody did, or an older version did not say.
    Column("named_by", Text),
)
Index("ix_step_runs_run_id_node", step_runs.c.run_id, step_runs.c.node)
_PARTIAL.append(Index("ix_step_runs_revision", step_runs.c.revision, sqlite_where=text("revision IS NOT NULL")))

attempts = Table(
    "attempts",
    metadata,
    Column("step_run_id", ForeignKey("step_runs.step_run_id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("target", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("failure", Text),
    Column("cpu_s", Double, nullable=False),
    Column("peak_memory_bytes", BigInteger, nullable=False),
    Column("warnings", Text, nullable=False),
    # Of effects only: what the attempt itself returned.
    Column("output", Text),
)

# What attempts used of their machines while they ran.
usage_samples = Table(
    "usage_samples",
    metadata,
    Column("step_run_id", ForeignKey("step_runs.step_run_id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("cpus", Double, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    # [percent, bytes] of each graphics processor; NULL where none was told of.
    Column("gpus", Text),
)

# What a step logged, apart from its metrics.
tracked = Table(
    "tracked",
    metadata,
    Column("step_run_id", ForeignKey("step_runs.step_run_id", ondelete="CASCADE"), primary_key=True),
    Column("params", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("artifacts", Text),
    Column("nested", Text, nullable=False),
    Column("extra", Text, nullable=False),
)

metrics = Table(
    "metrics",
    metadata,
    Column("step_run_id", ForeignKey("step_runs.step_run_id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    # NULL in a row of kind "number" means not-a-number: SQLite has no NaN.
    Column("number", Double),
    Column("plain", Text),
    Column("figure", Text),
    Column("step", BigInteger, nullable=False),
    Column("timestamp_ms", BigInteger, nullable=False),
)

code_fingerprints = Table(
    "code_fingerprints",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("leaves", Text, nullable=False),
)

# The step cache. No foreign key to step_runs: entries outlive pruned history.
cache_entries = Table(
    "cache_entries",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("output", Text, nullable=False),
    Column("step_run_id", String(32), nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("reuse", Boolean, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("run_id", String(32), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("ix_claims_run_id", "run_id"),
)

# Who holds tokens or waits for some; a few rows, gone when a step has ended.
token_requests = Table(
    "token_requests",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("node", Text, primary_key=True),
    Column("amounts", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("numbered", Text, nullable=False),
    Column("units", Text, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("step_priority", BigInteger, nullable=False),
    Column("since", Double, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("host", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
)

# When steps waited for tokens before they began.
token_waits = Table(
    "token_waits",
    metadata,
    Column("step_run_id", ForeignKey("step_runs.step_run_id", ondelete="CASCADE"), primary_key=True),
    Column("since", Double, primary_key=True),
    Column("until", Double, nullable=False),
    Column("amounts", Text, nullable=False),
)

durations = Table(
    "durations",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("duration_s", Double, nullable=False),
    Column("at", Double, nullable=False),
)

# All shown rows of a revision up to delivered_through are delivered: what is pending lies above it.
destinations = Table(
    "destinations",
    metadata,
    Column("name", Text, primary_key=True),
    Column("delivered_through", BigInteger, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("run_id", String(32), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("mlflow_run_id", Text, nullable=False),
)


def for_postgresql() -> None:
    """Make partial indices partial there, too. Told with the tables, SQLAlchemy would import that dialect (75 ms)."""
    for index in _PARTIAL:
        index.kwargs["postgresql_where"] = index.kwargs["sqlite_where"]
