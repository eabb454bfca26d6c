"""A virtual environment per tool in build/peers, made from pinned requirements."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import PROJECT
from benchmarks.peers.catalogue import OURS, PEERS, Peer

ENVIRONMENTS = PROJECT / "build" / "peers"


class NotInstalledError(Exception):
    """A tool's environment cannot be made; says why."""


def python_of(peer: Peer) -> Path:
    """Return the Python of a tool's environment, which is made first unless it is there with the same pins.

    Raises:
        NotInstalledError: with the last line that the installer said.
    """
    if peer.name == OURS:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer.name
    python = folder / "bin" / "python"
    wanted = f"{sys.version}\n{hashlib.sha256(peer.pins.read_bytes()).hexdigest()}"
    stamp = folder / "made-from"
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.write(f"making the environment of {peer.name} in {folder.relative_to(PROJECT)} ...\n")
        for command in _commands(folder, python, peer.pins):
            _carried_out(command)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def environ_of(peer: Peer) -> dict[str, str]:
    """Return what a tool's programs need in their environment: ours is measured from this tree, installed or not."""
    return {"PYTHONPATH": str(PROJECT)} if peer.name == OURS else {}


def _commands(folder: Path, python: Path, pins: Path) -> list[list[str]]:
    """Return what makes an environment: with uv where our own environment has it, else with pip."""
    uv = _uv()
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "-r", str(pins)],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)],
    ]


def _uv() -> str | None:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


def _carried_out(command: list[str], *, stdin: str = "") -> None:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotInstalledError(f"{Path(command[0]).name} {command[1]}: {lines[-1].strip()}")


def renew_pins() -> None:
    """Resolve the newest version of every tool and write the ``*.txt`` beside this file."""
    uv = _uv()
    if uv is None:
        raise SystemExit("renewing the pins needs uv: make venv")
    for peer in {peer.name: peer for peer in PEERS if peer.name != OURS}.values():
        options = ["--quiet", "--universal", "--python-version", "3.11", "--upgrade", "--no-header", "--no-annotate"]
        _carried_out(
            [uv, "pip", "compile", *options, "-", "--output-file", str(peer.pins)], stdin="\n".join(peer.needs)
        )
