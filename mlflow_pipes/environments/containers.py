"""Container images, by ``podman``: workers run in a container of the image, and see the folders that they need.

``docker`` cannot hand an open connection to a container, which is how workers are talked to.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mlflow_pipes.digests import digest_record
from mlflow_pipes.environments.interpreters import asked, check_usable
from mlflow_pipes.environments.programs import output_of
from mlflow_pipes.errors import ConfigurationError, WorldError
from mlflow_pipes.model.environment import Environment, ResolvedEnvironment

FOLDERS = "PIPES_FOLDERS"
"""Variable with the folders that workers see, separated as in PATH; each stands where it stands outside."""

_MOST_PROCESSES = 32768  # podman 4 lowers its own limit to this where it may not raise it
_FIND_PYTHON = "command -v python || command -v python3"


def resolve(environment: Environment, memos: Path) -> ResolvedEnvironment:
    """Return what an image holds; it is pulled where it is not there.

    Raises:
        ConfigurationError: there is no podman, or workers cannot run in the image; tells why.
        WorldError: the image cannot be pulled or started.
    """
    podman = program(environment)
    image = _id_of(podman, environment)
    what = str(environment)
    alone = [podman, "run", "--rm", "--network=none", *limits(), "--entrypoint", "/bin/sh", image, "-c"]
    path = _remembered_python(alone, image, memos, what)
    inside = [podman, "run", "--rm", "--network=none", *limits(), "--entrypoint", path, image]
    python = asked(inside, memos, what=what, remember=image)
    check_usable(python, environment, "RUN python -m pip install")
    return ResolvedEnvironment(
        name=environment.name or environment.made_of,
        kind="container",
        digest=digest_record("pipes.environment/1", ("container", image)),
        python=python.minor,
        packages=python.packages,
        recipe=environment.image,
        command=(podman, image, path),
        environ=environment.environ,
    )


def program(environment: Environment) -> str:
    """Return the path of podman.

    Raises:
        ConfigurationError: it is not there.
    """
    podman = shutil.which("podman")
    if podman is None:
        docker = " (docker is there, but cannot hand a worker's connection to a container)"
        only = docker if shutil.which("docker") else ""
        raise ConfigurationError(
            f"{environment}: it needs podman on the PATH, which is not there{only}; on Debian and Ubuntu: "
            "apt-get install podman"
        )
    return podman


def command_of(
    podman: str, image: str, python: str, arguments: Sequence[str], environ: Mapping[str, str], folders: Iterable[str]
) -> list[str]:
    """Return the command that runs Python in a container, descriptor 3 handed on.

    Workers see the processes and the network of the machine: they are killed by their ids, and use its services.
    """
    mounts = [f"--volume={folder}:{folder}" for folder in outermost(folders)]
    passed = [f"--env={name}" for name in environ if name not in _OF_THE_IMAGE]
    options = ["--rm", *limits(), "--interactive", "--pid=host", "--network=host", "--preserve-fds=1", "--userns=host"]
    labels = ["--security-opt=label=disable", "--log-driver=none"]
    workdir = f"--workdir={Path.cwd()}"
    return [podman, "run", *options, *labels, workdir, *passed, *mounts, "--entrypoint", python, image, *arguments]


def limits() -> list[str]:
    """Return the options that give a container this process's limits, as far as podman keeps them itself.

    Those that it would set by itself are higher than a process without the right to raise its own may set.
    """
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
    processes = _MOST_PROCESSES if processes == resource.RLIM_INFINITY else min(processes, _MOST_PROCESSES)
    return [f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={processes}:{processes}"]


_OF_THE_IMAGE = frozenset({"PATH", "HOME", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HOSTNAME"})


def outermost(folders: Iterable[str]) -> list[str]:
    """Return the folders that are not inside others of them.

    >>> outermost(["/a/b", "/a", "/c", "/a/b/d", "/ab"])
    ['/a', '/ab', '/c']
    """
    found: list[str] = []
    for folder in sorted({os.path.abspath(folder) for folder in folders if folder}):  # noqa: PTH100 - text
        if not any(folder.startswith(f"{outer.rstrip('/')}/") for outer in found):
            found.append(folder)
    return found


def _id_of(podman: str, environment: Environment) -> str:
    ask = [podman, "image", "inspect", "--format", "{{.Id}}", environment.image]
    try:
        return output_of(ask, what=f"{environment} is not there").strip()
    except WorldError:
        output_of([podman, "pull", "--quiet", environment.image], what=f"{environment} cannot be pulled")
        return output_of(ask, what=f"{environment} is not there").strip()


def _remembered_python(alone: Sequence[str], image: str, memos: Path, what: str) -> str:
    memo = memos / f"{digest_record('pipes.container-python/1', (image,))[:32]}.txt"
    if memo.exists():
        return memo.read_text(encoding="utf-8")
    path = output_of([*alone, _FIND_PYTHON], what=f"{what}: its image has no Python").strip()
    memos.mkdir(parents=True, exist_ok=True)
    memo.write_text(path, encoding="utf-8")
    return path
