"""A station: runs attempts on another machine, or in another scheduler's worker, for an orchestrator elsewhere.

What goes between them is bytes (``messages``); how they get there is the business of the target that uses it.
"""
