"""Our own package, packed for a machine that has it not; its name is its content, so it is sent once a version."""

from __future__ import annotations

import functools
import io
import sysconfig
import tarfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mlflow_pipes.digests import digest_bytes, digest_record
from mlflow_pipes.environments.support import MODULES, support
from mlflow_pipes.worker.own_package import own_parts


class _File(NamedTuple):
    content: bytes
    mode: int


class Shipment(NamedTuple):
    """A package to put in place.

    Attributes:
        name: of its folder there.
        files: by path in it.
        install: requirements that pip is to add there.
    """

    name: str
    files: Mapping[str, _File]
    install: tuple[str, ...]

    def packed(self) -> bytes:
        """Return the package as a compressed archive. Cost: 0.1 s."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
            for path, file in self.files.items():
                member = tarfile.TarInfo(path)
                member.size, member.mode = len(file.content), file.mode
                tar.addfile(member, io.BytesIO(file.content))
        return packed.getvalue()


@functools.lru_cache(maxsize=8)
def shipment_for(soabi: str, lacks: tuple[str, ...]) -> Shipment:
    """Return what a machine needs.

    Args:
        soabi: for which binaries its interpreter is; those that we have are sent where they fit.
        lacks: modules of ``environments.support`` that it has not.
    """
    files = dict(_ours())
    install: tuple[str, ...] = ()
    if lacks and soabi == soabi_here():
        for module in lacks:
            files.update(_of_distribution(module))
    elif lacks:
        wanted = dict(zip(MODULES, support({}), strict=True))
        install = tuple(wanted[module] for module in lacks)
    told = tuple((path, digest_bytes(file.content).hash, file.mode) for path, file in sorted(files.items()))
    name = f"ours-{digest_record('pipes.shipment/1', (told, install, soabi if lacks else ''))[:24]}"
    return Shipment(name, files, install)


def soabi_here() -> str:
    """Return for which binaries this interpreter is."""
    return f"{sysconfig.get_config_var('SOABI')} {sysconfig.get_platform()}"


@functools.cache
def _ours() -> Mapping[str, _File]:
    """Return our packages as they are now: a process sends what it began with."""
    found = {}
    for name, place in own_parts().items():
        for path in Path(place).rglob("*"):
            inner = path.relative_to(place)
            is_left = any(part == "__pycache__" or part.startswith(".") for part in inner.parts)
            if path.is_file() and not is_left:
                found[f"{name}/{inner.as_posix()}"] = _read(path)
    return found


def _of_distribution(name: str) -> Mapping[str, _File]:
    distribution = metadata.distribution(name)
    found = {}
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
            found[file.as_posix()] = _read(path)
    return found


def _read(path: Path) -> _File:
    return _File(path.read_bytes(), 0o755 if path.stat().st_mode & 0o100 else 0o644)
