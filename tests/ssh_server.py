"""A real OpenSSH server for tests: on loopback, with keys of its own, or a skip that says what is missing."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def missing():
    """Return what is missing for a server; empty when nothing is."""
    absent = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    absent += [] if program() else ["sshd"]
    return f"no {' and no '.join(absent)} here: install openssh-server and openssh-client" if absent else ""


def program():
    return shutil.which("sshd") or next((path for path in ("/usr/sbin/sshd",) if Path(path).exists()), None)


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed test run leaves no server behind


class Server:
    """A server that lets one key in, as whoever runs the tests."""

    def __init__(self, address="127.0.0.1", inside=()):
        self.address, self._inside = address, tuple(inside)
        self.folder = Path(tempfile.mkdtemp(prefix="pipes-ssh-"))
        self.port = free_port()
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        self.known_hosts = self.folder / "known_hosts"
        self.known_hosts.write_text(self.line_of(self.folder / "host_key.pub"))
        (self.folder / "config").write_text(
            f"ListenAddress {address}:{self.port}\n"
            f"HostKey {self.folder}/host_key\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\n"
            f"PidFile {self.folder}/pid\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin yes\nPrintMotd no\nUseDNS no\nLogLevel VERBOSE\nMaxStartups 100\n"
        )
        self._process = None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it separates its privileges
        self.start()

    def line_of(self, public_key):
        kind, key, *_ = public_key.read_text().split()
        return f"[{self.address}]:{self.port} {kind} {key}\n"

    def start(self):
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self._inside, program(), "-D", "-e", "-f", str(self.folder / "config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - it takes no lock
            )
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("sshd does not start: " + (self.folder / "log").read_text())

    def stop(self):
        """End the server, and not the connections that it has."""
        self._process.terminate()
        self._process.wait()

    def connections(self):
        """Return the pids of the processes that each speak to one client."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def options(self, **others):
        return {
            "host": self.address,
            "port": self.port,
            "key": str(self.folder / "user_key"),
            "known_hosts": str(self.known_hosts),
            "folder": str(self.folder / "there"),
            **others,
        }

    def remove(self):
        self.stop()
        end = time.monotonic() + 20
        while self.folder.exists() and time.monotonic() < end:  # stations that are about to end still write there
            shutil.rmtree(self.folder, ignore_errors=True)


class Network:
    """A network namespace with one address, and the cable that leads there; ``reason`` says why there is none."""

    def __init__(self):
        number = os.getpid() % 250
        self._name = f"pipes-test-{os.getpid()}"
        self._cable = f"pt{os.getpid() % 10_000_000}"
        self.address, ours = f"10.213.{number}.2", f"10.213.{number}.1"
        self.inside = ["ip", "netns", "exec", self._name]
        self.reason = ""
        commands = [
            ["ip", "netns", "add", self._name],
            ["ip", "link", "add", self._cable, "type", "veth", "peer", "name", "there", "netns", self._name],
            ["ip", "address", "add", f"{ours}/24", "dev", self._cable],
            ["ip", "link", "set", self._cable, "up"],
            [*self.inside, "ip", "address", "add", f"{self.address}/24", "dev", "there"],
            [*self.inside, "ip", "link", "set", "there", "up"],
        ]
        for command in commands:
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                words = getattr(error, "stderr", "") or str(error)
                self.reason = f"no network of its own here: {words.strip()}"
                self.remove()
                return

    def pull(self):
        subprocess.run([*self.inside, "ip", "link", "set", "there", "down"], check=True)

    def plug(self):
        subprocess.run([*self.inside, "ip", "link", "set", "there", "up"], check=True)

    def remove(self):
        for command in (["ip", "link", "del", self._cable], ["ip", "netns", "del", self._name]):
            with contextlib.suppress(OSError):
                subprocess.run(command, check=False, capture_output=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
