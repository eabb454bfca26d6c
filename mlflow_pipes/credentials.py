"""URLs as they may be shown and stored: no password may stand in a log, a message or history."""

from __future__ import annotations

import re

_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/?#\s]*@")


def without_credentials(text: str) -> str:
    """Return a URL, or a text with URLs in it, without user names and passwords.

    >>> without_credentials("cannot reach https://me:secret@mlflow.example.com/x")
    'cannot reach https://mlflow.example.com/x'
    """
    return _USER_AND_PASSWORD.sub("", text)
