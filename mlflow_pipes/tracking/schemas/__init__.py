"""SQL scripts that make the tables of MLflow databases, named by schema revision."""
