"""Datastores: digest -> bytes. Which one is used is the workspace's choice."""
