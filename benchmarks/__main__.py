"""``make bench``: measure everything in one run and write benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from importlib.metadata import version

from benchmarks.measuring import PROJECT, table

PARTS = ("startup", "overhead", "scale", "tables", "demo")
VERSIONS = ("mlflow_pipes", "distributed", "mlflow-skinny", "pandas", "pyarrow", "sqlalchemy", "scikit-learn")


def main() -> None:
    """Measure the parts named on the command line, by default all; all of them are written down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parts = parser.parse_args().parts or list(PARTS)
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
