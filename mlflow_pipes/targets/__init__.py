"""Compute targets: places where attempts run."""
