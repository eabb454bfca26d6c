"""What a compute target must do that is ``Warmable``: inherit :class:`WarmableContract`, not ``TargetContract``."""

from __future__ import annotations

import textwrap
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_pipes import content
from mlflow_pipes.model.attempt import AttemptFailed, AttemptStarted, AttemptSucceeded, FailureKind
from mlflow_pipes.ports import Warmable
from mlflow_pipes.testing.target_contract import TargetContract, alive
from mlflow_pipes.testing.target_driver import TargetDriver, assignment_of, imported

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_pipes.model.attempt import Assignment
    from mlflow_pipes.ports import Datastore

_LOUD = """
import logging
print("imported")
logging.getLogger("loud").warning("imported")
"""

_KNOWS_ITS_ENVIRONMENT = """
import os
mode = os.environ.get("PIPES_TEST_MODE")
def modes(): return [mode, os.environ.get("PIPES_TEST_MODE")]
"""

_SLOW = """
import os, time
from pathlib import Path
Path({file!r}).write_text(str(os.getpid()))
time.sleep(60)
"""


class WarmableContract(TargetContract):
    """The promises of :class:`mlflow_pipes.ports.Warmable`, and those of every target."""

    @pytest.fixture
    def warmable(self, driver: TargetDriver) -> Warmable:
        assert isinstance(driver.target, Warmable)
        return driver.target

    @pytest.fixture
    def loud(self, tmp_path: Path, datastore: Datastore) -> Any:
        """Assignments of functions in a module that prints and logs when it is imported, and then runs *source*."""
        file = tmp_path / f"loud_{uuid.uuid4().hex}.py"

        def loud(source: str, qualname: str, **arguments: Any) -> Assignment:
            file.write_text(textwrap.dedent(_LOUD) + textwrap.dedent(source))
            return assignment_of(imported(file, qualname), datastore, arguments)

        return loud

    def test_what_is_written_while_warming_comes_with_the_first_attempt(
        self, driver: TargetDriver, warmable: Warmable, loud: Any
    ) -> None:
        source = "def double(x): print(x); return 2 * x"
        first, second = loud(source, "double", x=1), loud(source, "double", x=2)
        warmable.warm([first.function], {})
        _turn_for(driver, 1.0)
        assert driver.events == []
        assert isinstance(driver.run(first), AttemptSucceeded)
        assert isinstance(driver.run(second), AttemptSucceeded)
        assert isinstance(driver.events[0], AttemptStarted)
        assert driver.lines(first.attempt, "stdout") == ["imported", "1"]
        assert driver.lines(first.attempt, "logging") == ["WARNING loud: imported"]
        assert driver.lines(second.attempt, "stdout") == ["2"]
        assert driver.lines(second.attempt, "logging") == []

    @pytest.mark.parametrize("raised", ["ValueError('no such country')", "SystemExit(3)"])
    def test_what_is_raised_while_warming_fails_the_first_attempt_as_if_it_were_cold(
        self, driver: TargetDriver, warmable: Warmable, loud: Any, raised: str
    ) -> None:
        assignment = loud(f"raise {raised}", "never_defined")
        warmable.warm([assignment.function], {})
        _turn_for(driver, 1.0)
        assert driver.events == []
        answer = driver.run(assignment)
        cold = driver.run(loud(f"raise {raised}", "never_defined"))
        assert isinstance(answer, AttemptFailed)
        assert isinstance(cold, AttemptFailed)
        assert answer.failure == cold.failure
        assert answer.failure.kind is FailureKind.EXCEPTION
        assert driver.lines(assignment.attempt, "stdout") == ["imported"]

    def test_modules_are_warmed_in_the_environment_of_their_attempts(
        self, driver: TargetDriver, warmable: Warmable, loud: Any, datastore: Datastore
    ) -> None:
        assignment = loud(_KNOWS_ITS_ENVIRONMENT, "modes")
        warmable.warm([assignment.function], {"PIPES_TEST_MODE": "on"})
        answer = driver.run(assignment)
        assert isinstance(answer, AttemptSucceeded)
        assert content.load(answer.output, datastore) == ["on", None]

    def test_warming_for_more_than_it_holds_and_for_what_is_not_there_is_harmless(
        self, driver: TargetDriver, warmable: Warmable, assign: Any, tmp_path: Path
    ) -> None:
        file = tmp_path / "nowhere.py"
        file.touch()
        nowhere = imported(file, "nothing")
        file.unlink()
        warmable.warm([nowhere] * (driver.target.capacity().slots + 5), {})
        assert isinstance(driver.run(assign("double", x=1)), AttemptSucceeded)

    def test_what_was_warmed_for_nothing_is_gone_when_the_target_is_closed(
        self, driver: TargetDriver, warmable: Warmable, loud: Any, tmp_path: Path
    ) -> None:
        file = tmp_path / "pid"
        warmable.warm([loud(_SLOW.format(file=str(file)), "never_defined").function], {})
        driver.until(lambda: file.exists() and bool(file.read_text()))
        began = time.monotonic()
        driver.target.close()
        assert time.monotonic() - began < 30  # of 60; mostly it takes milliseconds
        assert not alive(int(file.read_text()))
        assert driver.events == []

    def test_a_closed_target_is_not_warmed(self, driver: TargetDriver, warmable: Warmable, loud: Any) -> None:
        driver.target.close()
        warmable.warm([loud("", "never_defined").function], {})
        assert driver.events == []


def _turn_for(driver: TargetDriver, seconds: float) -> None:
    """Turn the loop for a while."""
    end = time.monotonic() + seconds
    driver.until(lambda: time.monotonic() > end)
