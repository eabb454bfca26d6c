"""What a type checker sees: a step call as what the function returns, and wrong calls as errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def checked(name: str) -> dict[int, str]:
    """Return the kind of error that mypy finds, by line."""
    file = HERE / name
    found, failed, _ = api.run(
        [str(file), "--strict", "--no-error-summary", f"--config-file={ROOT / 'pyproject.toml'}"]
    )
    assert not failed, failed
    errors = [re.fullmatch(r"(.+?):(\d+): error: .* \[([\w-]+)\]", line) for line in found.splitlines()]
    return {int(error[2]): error[3] for error in errors if error and Path(error[1]).resolve() == file}


@pytest.mark.slow
def test_a_step_call_is_seen_as_returning_what_the_function_returns():
    assert checked("typed_pipelines.py") == {}


@pytest.mark.slow
def test_wrong_calls_are_type_errors():
    lines = (HERE / "mistyped_pipelines.py").read_text().splitlines()
    expected = {number: mark[1] for number, line in enumerate(lines, 1) if (mark := re.search(r"# E: ([\w-]+)", line))}
    assert checked("mistyped_pipelines.py") == expected
