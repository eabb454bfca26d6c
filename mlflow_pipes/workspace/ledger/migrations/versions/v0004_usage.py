"""What attempts use of their machines while they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; it is new."""
    op.create_table(
        "usage_samples",
        sa.Column("step_run_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("cpus", sa.Double(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpus", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["step_run_id"],
            ["step_runs.step_run_id"],
            name=op.f("fk_usage_samples_step_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("step_run_id", "number", "at", name=op.f("pk_usage_samples")),
    )
