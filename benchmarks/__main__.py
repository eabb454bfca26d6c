"""``make bench``: measure everything of ours in one run and write benchmarks/RESULTS.md.

``make bench-peers``, the part ``peers`` here, takes most of an hour and writes benchmarks/RESULTS-PEERS.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from importlib.metadata import version

from benchmarks.measuring import PROJECT, table

PARTS = ("startup", "overhead", "shapes", "scale", "tables", "demo")
ON_REQUEST = ("large", "targets", "peers")
VERSIONS = ("mlflow_pipes", "distributed", "mlflow-skinny", "pandas", "pyarrow", "sqlalchemy", "scikit-learn")


def main() -> None:
    """Measure the parts named on the command line, by default all but the peers; all of them are written down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, *ON_REQUEST, []], help="by default all but the last three")
    parts = parser.parse_args().parts or list(PARTS)
    if "peers" in parts:
        from benchmarks.peers.__main__ import main as compare_with_peers

        compare_with_peers([])
        parts.remove("peers")
    sections = []
    for part in parts:
        sys.stdout.write(f"measuring {part} ...\n")
        module = importlib.import_module(f"benchmarks.{part}")
        text = f"## {part}\n\n{module.__doc__}\n\n{table(module.measure())}\n"
        sys.stdout.write(text + "\n")
        sections.append(text)
    if set(parts) == set(PARTS):
        versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
        head = (
            f"# Results\n\n`make bench` wrote this on {time.strftime('%Y-%m-%d')}: Python {platform.python_version()}, "
            f"{os.cpu_count()} cores; {versions}. The machine is shared and noisy: trust ratios before seconds.\n\n"
        )
        (PROJECT / "benchmarks" / "RESULTS.md").write_text(head + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
