"""Moments as people read them."""

from __future__ import annotations

import datetime as dt


def ago(moment: dt.datetime, now: dt.datetime) -> str:
    """Return how long ago a moment was.

    >>> now = dt.datetime(2013, 1, 31, 18, 0, tzinfo=dt.UTC)
    >>> [ago(now - dt.timedelta(seconds=s), now) for s in (3, 70, 7300, 200000)]
    ['now', '1 min ago', '2 h ago', '2 d ago']
    """
    seconds = (now - moment).total_seconds()
    if seconds < 10:
        return "now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    return f"{seconds // 86400:.0f} d ago"


def local_time(moment: dt.datetime) -> str:
    """Return a moment in the machine's time zone, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def utc_now() -> dt.datetime:
    """Return the present moment."""
    return dt.datetime.now(dt.UTC)
