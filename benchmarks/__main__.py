"""``make bench``: measure everything of ours and write benchmarks/RESULTS.md, a section for each part.

Parts that are named are measured alone, and their sections replaced. ``make bench-peers``, the part ``peers`` here,
takes most of an hour and writes benchmarks/RESULTS-PEERS.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import sys
import time
from importlib.metadata import version

from benchmarks.measuring import PROJECT, table
from mlflow_pipes.machine.whole_files import write_whole

PARTS = ("startup", "overhead", "shapes", "scale", "tables", "demo", "targets", "handover")
ON_REQUEST = ("large", "peers")
RESULTS = PROJECT / "benchmarks" / "RESULTS.md"
HEAD = """# Results

`make bench` writes this; each part is measured in one run. The machines are shared and noisy: trust ratios before
seconds.
"""
VERSIONS = ("mlflow_pipes", "distributed", "mlflow-skinny", "pandas", "pyarrow", "sqlalchemy", "scikit-learn")


def main() -> None:
    """Measure the parts named on the command line, by default all but those on request, and write them down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, *ON_REQUEST, []], help="by default all but the last two")
    parts = parser.parse_args().parts or list(PARTS)
    if "peers" in parts:
        from benchmarks.peers.__main__ import main as compare_with_peers

        compare_with_peers([])
        parts.remove("peers")
    for part in parts:
        sys.stdout.write(f"measuring {part} ...\n")
        module = importlib.import_module(f"benchmarks.{part}")
        section = f"{module.__doc__}\n\nMeasured on {_where()}.\n\n{table(module.measure())}\n"
        sys.stdout.write(section + "\n")
        _write(part, section)


def _where() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return f"{time.strftime('%Y-%m-%d')}: Python {platform.python_version()}, {os.cpu_count()} cores; {versions}"


def _write(part: str, section: str) -> None:
    """Replace the part's section of the results, or add it; sections stand in the order of the parts."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    _, *parts = re.split(r"^## (\w+)\n\n", old, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True)) | {part: section}
    ordered = [f"## {name}\n\n{sections[name].strip()}\n" for name in (*PARTS, *ON_REQUEST) if name in sections]
    write_whole(RESULTS, "\n".join([HEAD, *ordered]))


if __name__ == "__main__":
    main()
