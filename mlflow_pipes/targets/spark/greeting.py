"""How an orchestrator and a task of Spark's know each other before either reads what the other says.

Both prove that they know a secret, which travels with the job, without saying it. What they say afterwards is pickled.
"""

from __future__ import annotations

import hmac
import pickle
import secrets
import socket
import struct
from typing import Any, NamedTuple

from mlflow_pipes.digests import Digest

_NONCE = 32
_LENGTH = struct.Struct(">I")
_MOST_BYTES = 16 * 1024 * 1024


class Look(NamedTuple):
    """To a task, first: what to look for.

    Attributes:
        datastore: the orchestrator's, pickled.
        blob: one that is there and nowhere else.
    """

    datastore: bytes
    blob: Digest


class Arrived(NamedTuple):
    """From a task, first.

    Attributes:
        job: which of the orchestrator's it belongs to.
        host: of the executor; tasks of one host share its processors.
        folder: absolute; ours there.
        sees: it reaches the orchestrator's datastore itself.
    """

    job: str
    host: str
    folder: str
    sees: bool


def welcome(connection: socket.socket, secret: bytes) -> bool:
    """Tell whether who has connected knows the secret, and prove to him that we do."""
    ours = secrets.token_bytes(_NONCE)
    connection.sendall(ours)
    theirs, proof = _exactly(connection, _NONCE), _exactly(connection, _NONCE)
    if not hmac.compare_digest(proof, _proof(secret, b"task", ours, theirs)):
        return False
    connection.sendall(_proof(secret, b"orchestrator", ours, theirs))
    return True


def greet(connection: socket.socket, secret: bytes) -> None:
    """Prove that we know the secret. Raises ``ConnectionError`` when the other side does not."""
    theirs, ours = _exactly(connection, _NONCE), secrets.token_bytes(_NONCE)
    connection.sendall(ours + _proof(secret, b"task", theirs, ours))
    if not hmac.compare_digest(_exactly(connection, _NONCE), _proof(secret, b"orchestrator", theirs, ours)):
        raise ConnectionError("who listens there does not know the secret of this job")


def say(connection: socket.socket, what: Any) -> None:
    """Send one thing."""
    packed = pickle.dumps(what, 5)
    connection.sendall(_LENGTH.pack(len(packed)) + packed)


def hear(connection: socket.socket) -> Any:
    """Return one thing that was sent; only from who is known. Raises ``ConnectionError``."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _MOST_BYTES:
        raise ConnectionError(f"{length} bytes are no greeting")
    return pickle.loads(_exactly(connection, length))


def _proof(secret: bytes, role: bytes, first: bytes, second: bytes) -> bytes:
    return hmac.digest(secret, b"pipes.spark/1 " + role + first + second, "sha256")


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = connection.recv(count - len(found))
        if not piece:
            raise ConnectionError("the other side hung up")
        found += piece
    return found
