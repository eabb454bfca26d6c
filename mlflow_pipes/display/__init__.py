"""What a person sees of a running run: a live view on a terminal, plain lines elsewhere.

:func:`observer_for` chooses. Observers only count while the engine's thread calls them; a thread of their own draws.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from mlflow_pipes.errors import ConfigurationError, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_pipes.display.live import LiveObserver
    from mlflow_pipes.display.plain import PlainObserver
    from mlflow_pipes.model.graph import Graph

MODES = ("auto", "live", "plain", "off")


def observer_for(
    stream: TextIO | None = None,
    graph: Graph | None = None,
    *,
    mode: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> LiveObserver | PlainObserver | None:
    """Return who shows the run on *stream* (standard error by default), or None when nothing should be shown.

    Whoever runs the engine calls the observer's ``close()`` in a ``finally``: it gives the terminal back also when the
    run never came to its end. Closing twice is harmless.

    Args:
        stream: where to write. A terminal gets the live view, anything else plain lines.
        graph: of the run; only its size is used, to know the whole before every step is declared.
        mode: ``auto``, ``live``, ``plain`` or ``off``; by default what ``PIPES_DISPLAY`` says, else ``auto``.
        environ: ``PIPES_DISPLAY``, ``NO_COLOR``, ``FORCE_COLOR`` and ``TERM`` are read.

    Raises:
        ConfigurationError: the mode is not one of these.
    """
    wanted = mode or environ.get("PIPES_DISPLAY") or "auto"
    if wanted not in MODES:
        raise ConfigurationError(
            f"PIPES_DISPLAY={wanted!r} is not a display{suggest(wanted, MODES)} (one of: {', '.join(MODES)})"
        )
    if wanted == "off":
        return None
    target = sys.stderr if stream is None else stream
    if wanted == "auto":
        on_screen = target.isatty() and environ.get("TERM", "") != "dumb"
        wanted = "live" if on_screen else "plain"
    expected = len(graph.nodes) if graph is not None else 0
    from mlflow_pipes.display.look import Look

    look = Look.of(target, environ)
    if wanted == "live":
        from mlflow_pipes.display.live import LiveObserver

        return LiveObserver(target, look, expected=expected)
    from mlflow_pipes.display.plain import PlainObserver

    return PlainObserver(target, look, expected=expected)
