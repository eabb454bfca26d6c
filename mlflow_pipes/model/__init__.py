"""Frozen records that every layer speaks of: artifacts, steps, graphs, attempts, runs. Pure."""
