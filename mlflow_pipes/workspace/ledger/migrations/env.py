"""Alembic's entry: migrates the connection that ``schema.make_ready`` passes."""

from __future__ import annotations

from alembic import context

from mlflow_pipes.workspace.ledger.tables import metadata


def migrate() -> None:
    """Run the migrations that Alembic chose, on our connection and inside our transaction."""
    connection = context.config.attributes["connection"]
    # SQLite cannot alter a column in place: batch mode copies the table.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=False)
    context.run_migrations()


if __name__ == "env_py":  # the name under which Alembic loads this file; not under another's, such as doctest's
    migrate()
