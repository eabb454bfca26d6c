"""The reusable step library of mlflow_pipes."""
