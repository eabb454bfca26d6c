"""Who named the targets of steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that may be empty; no row is rewritten."""
    op.add_column("step_runs", sa.Column("named_by", sa.Text(), nullable=True))
