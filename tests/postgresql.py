"""A real PostgreSQL for tests: a server of their own on loopback, or a skip that says what is missing."""

import contextlib
import ctypes
import getpass
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

USER = "pipes"
# May only come in with its password; everybody else is believed.
GUARDED, PASSWORD = "guarded", "p@ss:w/rd?#1"
_schemas = itertools.count(1)


def programs():
    """Return the folder of initdb and postgres, None where there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: -float(one.parent.name))
    return next((one for one in folders if (one / "initdb").exists() and (one / "postgres").exists()), None)


def _unprivileged():
    """Return options that start a process as somebody whom PostgreSQL accepts: not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    return None


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG: a killed test run leaves no server behind


class Server:
    """A server with its own data folder; may be stopped and started again at the same port."""

    def __init__(self, binaries, options):
        self._binaries, self._options = binaries, options
        self.folder = Path(tempfile.mkdtemp(prefix="pipes-postgresql-"))
        if options:
            os.chown(self.folder, options["user"], options["group"])
        self._data = self.folder / "data"
        self.port = free_port()
        self._process = None
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions")
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\n" + rules.read_text())

    def _run(self, program, *arguments):
        subprocess.run(
            [self._binaries / program, *arguments],
            check=True, capture_output=True, cwd=self.folder, **self._options,
        )  # fmt: skip

    def start(self):
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
            "full_page_writes": "off", "max_connections": 100, "shared_buffers": "32MB",
        }  # fmt: skip
        chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *chosen],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                preexec_fn=_die_with_parent, **self._options,  # noqa: PLW1509 - it takes no lock
            )  # fmt: skip
        self._wait()

    def _wait(self):
        import psycopg

        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, how=signal.SIGINT):
        """Stop: SIGINT politely, SIGQUIT as in a power cut."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database="postgres", user=USER, **parameters):
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def new_schema(self):
        """Return the URL of a ledger that nobody has used."""
        return self.url(schema=f"test_{os.getpid()}_{next(_schemas)}")

    def query(self, sql, *parameters):
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            found = connection.execute(sql, parameters)
            return found.fetchall() if found.description else []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def missing():
    """Return why there can be no server here; empty when there can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed: pip install 'mlflow_pipes[postgresql]'"
    if programs() is None:
        return "PostgreSQL is not installed: sh tests/install_system_packages.sh (as root)"
    if _unprivileged() is None:
        return f"PostgreSQL does not run as {getpass.getuser()}, and there is neither a user postgres nor nobody"
    return ""


def new_server():
    """Return a started server; the caller removes it."""
    server = Server(programs(), _unprivileged())
    try:
        server.start()
        server.query(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")
    except BaseException:
        server.remove()
        raise
    return server
