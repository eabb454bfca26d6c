"""Run history in MLflow: the publisher drains the ledger's outbox into it, in a process of its own.

Nothing here imports MLflow before it is needed; the orchestrator's process never does.
"""
