"""Steps that run in a container of an image."""

from __future__ import annotations

from pathlib import Path

from mlflow_pipes import pipeline, step


@step(environment="packed")
def inside(file: Path) -> list[str]:
    import os
    import sys

    print("written in a container")
    return [file.read_text(), os.environ["COLOUR"], sys.prefix, str(Path("/etc/passwd").exists())]


@step(environment="packed", timeout_s=0.5)
def slow() -> None:
    import time

    time.sleep(60.0)


@step(environment="packed")
def dies() -> None:
    import os

    os._exit(3)


@pipeline(fail_fast=False)
def all_of_them(file: Path):
    return inside(file), slow(), dies()
