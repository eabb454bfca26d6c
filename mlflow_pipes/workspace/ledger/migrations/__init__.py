"""Alembic migrations of the ledger, one file a schema version."""
