"""Where the real workflow graphs and data sets are, for tests that read them; absent in a plain checkout."""

import os
from pathlib import Path

import pytest

CORPORA = Path(os.environ.get("PIPES_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))

needs_workflows = pytest.mark.skipif(
    not (CORPORA / "wf").is_dir(), reason=f"no workflow corpus at {CORPORA / 'wf'} (set PIPES_CORPORA)"
)


def workflow_files() -> list[Path]:
    """Return the corpus's workflow graphs; empty where it is absent."""
    return sorted((CORPORA / "wf").glob("*.json"))
