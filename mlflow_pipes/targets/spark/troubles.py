"""What Spark says when it cannot be used, in words that name the culprit and what helps."""

from __future__ import annotations

import re
import sys

_SIGNS: tuple[tuple[str, str], ...] = (
    (
        r"No module named 'mlflow_pipes|ModuleNotFoundError: No module named",
        "the executors lack a package ({line}): install it there, mlflow_pipes in this version, or set `python`",
    ),
    (
        r"PYTHON_VERSION_MISMATCH|different (?:minor )?version .*Python|Python in worker has different version",
        "the executors have another Python than this one, which is {version}: name one of that version by `python`",
    ),
    (
        r"Cannot run program \"?[^\"]*python|python[^\n]*: No such file or directory",
        "the executors cannot start their Python ({line}): name one that they have by `python`",
    ),
    (
        r"UnsupportedClassVersionError|class file version",
        "the Java that was found is too old for this Spark: install Java 17 or newer, or set JAVA_HOME",
    ),
    (
        r"All masters are unresponsive|Failed to connect to master|Failed to connect to|Connection refused",
        "nobody answers there: check that it runs and that `master` is right",
    ),
    (
        r"UNAVAILABLE|failed to connect to all addresses",
        "nobody answers there: check that it runs and that `master` is right",
    ),
    (
        r"cannot reach the run at",
        "{line}: name an address of this machine that executors reach by `host`",
    ),
    (
        r"JAVA_GATEWAY_EXITED|Java gateway process exited",
        "Java ended before Spark had begun; what it said is in {log}",
    ),
)


def explained(where: str, said: str, log: str = "") -> str:
    """Return what is wrong with Spark, by what it said.

    Args:
        where: the master.
        said: Spark's own words, as many as there are.
        log: file with all that the driver wrote.
    """
    for pattern, told in _SIGNS:
        found = re.search(pattern, said)
        if found is not None:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            return f"Spark at {where}: " + told.format(line=_line_at(said, found.start()), version=version, log=log)
    return f"Spark at {where}: {_telling_line(said)}" + (f"; more is in {log}" if log else "")


def _line_at(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[start : end if end >= 0 else None].strip()[:300]


def _telling_line(text: str) -> str:
    lines = [line.strip()[:300] for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"Error|Exception|ERROR", line)]
    quiet = [line for line in lines if not re.search(r"WARN|Warning|log4j|log level|require_minimum", line)]
    return next(iter([*telling, *quiet]), "it said nothing")
