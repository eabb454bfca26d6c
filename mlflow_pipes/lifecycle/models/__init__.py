"""Models outside of runs: their identity as folders, and MLflow's model registry."""
