"""Figures of mlflow_pipes, as medians and as ratios against raw Dask and plain Python in the same run."""
