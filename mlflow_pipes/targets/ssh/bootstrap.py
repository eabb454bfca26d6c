"""What runs first on the other machine: sees what is there, puts our package in place, begins or finds the session.

It is sent as text and runs before anything of ours is there, with whatever Python the machine has: so it imports the
standard library only, and what is older than Python 3.11 need only get as far as telling its version. It speaks lines
of JSON after a mark, because shells may print greetings first; after the last line it only hands on bytes.
"""

# It is to run alone, and by the oldest Python that there is: annotations are not evaluated anywhere.
# ruff: noqa: PTH100, PTH102, PTH103, PTH104, PTH111, PTH112, PTH118, PTH123, PTH208, UP031

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
from typing import Any, NoReturn

MARK = b"\x1epipes "
_LEAST_FREE = 100 * 1024 * 1024
_PIECE = 256 * 1024
_START = "import sys; sys.path.insert(0, sys.argv[1]); from mlflow_pipes.targets.station.serve import main; main()"


def say(**record: Any) -> None:
    """Say a line."""
    line = MARK + json.dumps(record).encode("ascii") + b"\n"
    while line:
        line = line[os.write(1, line) :]


def give_up(error: str) -> NoReturn:
    """Say what is wrong, and end."""
    say(error=error)
    sys.exit(0)


def read_line() -> Any:
    """Return the next line that is said to us."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            sys.exit(0)
        line += piece
    return json.loads(line.decode("ascii"))


def read_exactly(size: int) -> bytes:
    """Return the next bytes."""
    pieces = []
    while size:
        piece = os.read(0, min(size, _PIECE))
        if not piece:
            sys.exit(0)
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def look(asked: "dict[str, Any]", folder: str) -> None:
    """Tell what this machine has."""
    from importlib.util import find_spec

    for place in (folder, os.path.join(folder, "sessions")):
        os.makedirs(place, mode=0o700, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE:
        room = "%d MiB" % (free // 2**20)
        give_up("only %s are free in %s: make room there, or name another `folder`" % (room, folder))
    say(
        folder=folder,
        soabi="%s %s" % (sysconfig.get_config_var("SOABI"), sysconfig.get_platform()),
        lacks=[module for module in asked["modules"] if find_spec(module) is None],
        have=[name for name in os.listdir(folder) if name.startswith("ours-")],
        host=socket.gethostname(),
        executable=sys.executable,
    )


def put_in_place(order: "dict[str, Any]", folder: str) -> str:
    """Unpack our package where it is not yet; return its folder."""
    place = os.path.join(folder, order["package"])
    packed = read_exactly(order["size"])
    if not os.path.isdir(place):
        fresh = tempfile.mkdtemp(prefix=".unpacking-", dir=folder)
        try:
            extracting: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
                tar.extractall(fresh, **extracting)  # noqa: S202
            if order["install"]:
                install(order["install"], fresh)
            try:
                os.rename(fresh, place)
            except OSError:
                if not os.path.isdir(place):  # else another was faster
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    os.utime(place)
    return place


def install(requirements: "list[str]", fresh: str) -> None:
    """Have pip add what the interpreter has not, and we cannot take along."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--target", fresh]
    command = [sys.executable, "-m", "pip", "install", *options, *requirements]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        words = done.stdout.decode("utf-8", "replace").strip()[-1000:]
        wanted = " ".join("'%s'" % one for one in requirements)
        remedy = "install them there: %s -m pip install %s" % (sys.executable, wanted)
        give_up("%s has no %s, and pip cannot get them; %s\n%s" % (sys.executable, wanted, remedy, words))


def begin(asked: "dict[str, Any]", folder: str, package: str) -> None:
    """Start the session's process, and wait until it can be spoken to."""
    own = os.path.join(folder, "sessions", asked["session"])
    os.mkdir(own, 0o700)
    reading, writing = os.pipe()
    log = os.path.join(own, "log")
    with open(log, "ab") as errors:
        subprocess.Popen(
            [sys.executable, "-c", _START, package, folder, own, str(asked["reconnect_s"])],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=errors,
            start_new_session=True,  # it stays when this connection breaks
        )
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        if told.readline() != b"ready\n":
            with open(log, "rb") as words:
                tail = words.read()[-2000:].decode("utf-8", "replace").strip()
            shutil.rmtree(own, ignore_errors=True)
            give_up("the station's process did not start: %s" % tail)


def connect(asked: "dict[str, Any]", folder: str) -> Any:
    """Return a connection to the session's process; None when it is gone."""
    there = socket.socket(socket.AF_UNIX)
    try:
        os.chdir(os.path.join(folder, "sessions", asked["session"]))  # the name of a socket must be short
        there.connect("socket")
    except OSError:
        return None
    return there


def hand_on(there: Any) -> None:
    """Hand bytes on, both ways, until one side has ended."""

    def out() -> None:
        try:
            while True:
                piece = there.recv(_PIECE)
                if not piece:
                    break
                while piece:
                    piece = piece[os.write(1, piece) :]
        finally:
            os._exit(0)

    threading.Thread(target=out, daemon=True).start()
    try:
        while True:
            piece = os.read(0, _PIECE)
            if not piece:
                break
            there.sendall(piece)
    except OSError:
        pass
    os._exit(0)


def main() -> None:
    """See what is there, begin or find the session, hand bytes on."""
    say(python=list(sys.version_info[:2]), executable=sys.executable)
    asked = read_line()
    folder = os.path.abspath(os.path.expanduser(asked["folder"]))
    try:
        if asked["is_new"]:
            look(asked, folder)
            begin(asked, folder, put_in_place(read_line(), folder))
        there = connect(asked, folder)
    except (OSError, tarfile.TarError) as error:
        give_up("cannot use %s: %s" % (folder, error))
    if there is None:
        say(gone=True)
        return
    say(ready=True)
    hand_on(there)


if __name__ == "__main__":
    main()
