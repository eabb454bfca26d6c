"""Addresses such as ``tcp://10.0.0.1:8786``, as Dask writes them."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit


def refusal(address: str, within_s: float) -> str:
    """Return why nobody can be spoken to at an address, in words; empty when somebody listens there.

    What is no address of the kind that can be looked at is taken to be well.
    """
    try:
        place = urlsplit(address)
        where = (place.hostname or "", place.port or 0)
    except ValueError as error:
        return str(error)
    if place.scheme not in {"tcp", "tls"} or not all(where):
        return ""
    try:
        with socket.create_connection(where, timeout=within_s):
            return ""
    except OSError as error:
        return error.strerror or str(error)
