"""``make bench-peers``: overhead a step of mlflow_pipes and of other tools, and whose caches see an edited function.

``protocol.py``, the ``*_graphs.py`` and the ``*_probe.py`` run in the tools' own environments, ``build/peers/NAME``;
all else runs in ours.
"""
