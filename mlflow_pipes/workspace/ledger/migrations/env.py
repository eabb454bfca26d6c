"""Alembic's entry: migrates the connection that ``schema.make_ready`` passes."""

from __future__ import annotations

from alembic import context

from mlflow_pipes.workspace.ledger.tables import metadata

connection = context.config.attributes["connection"]
# SQLite cannot alter a column in place: batch mode copies the table.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=False)
context.run_migrations()
