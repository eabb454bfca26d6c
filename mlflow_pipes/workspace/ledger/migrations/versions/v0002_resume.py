"""Runs that resume others, effects, and requests to stop a part of a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a ledger from '0001' to '0002': columns that may be empty, and new tables; no row is rewritten."""
    op.add_column("runs", sa.Column("resumed_from", sa.String(length=32), nullable=True))
    op.add_column("runs", sa.Column("first_run_id", sa.String(length=32), nullable=True))
    op.create_index(
        "ix_runs_first_run_id",
        "runs",
        ["first_run_id"],
        unique=False,
        sqlite_where=sa.text("first_run_id IS NOT NULL"),
        postgresql_where=sa.text("first_run_id IS NOT NULL"),
    )
    op.add_column("step_runs", sa.Column("effect", sa.Boolean(), nullable=True))
    op.add_column("attempts", sa.Column("output", sa.Text(), nullable=True))
    op.create_table(
        "calls",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("given", sa.Text(), nullable=False),
        sa.Column("arguments", sa.LargeBinary(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_calls_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_calls")),
    )
    op.create_table(
        "cancel_requests",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.run_id"], name=op.f("fk_cancel_requests_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "node", name=op.f("pk_cancel_requests")),
    )
