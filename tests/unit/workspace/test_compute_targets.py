"""The compute targets of a workspace: listed, attached, detached, turned on and off."""

import importlib
import json
import sys
import time

import pytest

from mlflow_pipes import Workspace, run, step
from mlflow_pipes.cli.app import run as pipes
from mlflow_pipes.cli.checks import workspace_checks
from mlflow_pipes.cli.commands.compute import _report_lines
from mlflow_pipes.errors import ConfigurationError, NotFoundError
from mlflow_pipes.model.attempt import Capacity
from mlflow_pipes.stores.local import LocalDatastore
from mlflow_pipes.targets.inline import InlineTarget
from mlflow_pipes.targets.local import LocalTarget
from mlflow_pipes.workspace.probe import ProbeReport, probed

FLEET = """
from pathlib import Path

class Fleet:
    '''Machines that are on while a file is there.'''
    def __init__(self, name, datastore, *, switch, checkout, scratch, workspace):
        self.name, self._switch = name, Path(switch)
    def turn_on(self):
        self._switch.touch()
    def turn_off(self):
        self._switch.unlink(missing_ok=True)
    def is_on(self):
        return self._switch.exists()
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "pipes.toml").write_text("[targets.two]\ntype = 'local'\nworkers = 2\n")
    with Workspace.open(tmp_path) as home:
        yield home


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    folder = tmp_path / "installed"
    (folder / "fleet-1.0.dist-info").mkdir(parents=True)
    (folder / "fleet_of_others.py").write_text(FLEET)
    (folder / "fleet-1.0.dist-info" / "METADATA").write_text("Name: fleet\nVersion: 1.0\n")
    (folder / "fleet-1.0.dist-info" / "entry_points.txt").write_text(
        "[mlflow_pipes.compute_targets]\nfleet = fleet_of_others:Fleet\n"
    )
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        yield folder
    sys.modules.pop("fleet_of_others", None)


def test_all_targets_are_listed_with_what_they_hold_and_who_says_so(home, tmp_path):
    found = {one.name: one for one in home.compute.list()}
    assert [(name, one.source) for name, one in found.items()] == [
        ("inline", "built in"), ("local", "built in"), ("two", str(tmp_path / "pipes.toml")),
    ]  # fmt: skip
    assert found["local"].is_default
    assert found["two"].capacity.slots == 2
    with pytest.raises(NotFoundError, match="no target 'tow'; did you mean 'two'"):
        home.compute.show("tow")


def test_an_attached_target_is_there_for_later_processes_until_it_is_detached(home, tmp_path):
    home.compute.attach("three", type="local", workers=3, memory="2 GiB")
    assert home.configuration.targets["three"].options == {"workers": 3, "memory_bytes": 2 << 30}
    with Workspace.open(tmp_path) as later:
        assert later.compute.show("three").source == "attached"
        later.compute.attach("three", type="local", workers=4)
        assert later.compute.show("three").capacity.slots == 4
        later.compute.detach("three")
        assert "three" not in later.configuration.targets
        with pytest.raises(NotFoundError, match="'three' was not attached"):
            later.compute.detach("three")


def test_what_the_project_says_of_a_name_comes_first(home, tmp_path):
    with pytest.raises(ConfigurationError, match=r"'two' is defined in .*pipes\.toml, which comes first"):
        home.compute.attach("two", type="local", workers=9)
    with pytest.raises(ConfigurationError, match=r"in .*pipes\.toml: remove it there"):
        home.compute.detach("two")
    home.compute.attach("three", type="local", workers=3)
    (tmp_path / "pipes.toml").write_text("[targets.three]\ntype = 'local'\nworkers = 1\n")
    with Workspace.open(tmp_path) as later:
        assert later.compute.show("three").capacity.slots == 1


def test_a_target_that_is_always_there_can_be_made_otherwise_and_comes_back(home):
    home.compute.attach("local", workers=7)
    assert home.compute.show("local").capacity.slots == 7
    home.compute.detach("local")
    assert home.compute.show("local").source == "built in"
    with pytest.raises(ConfigurationError, match="'local' was not attached, it is always there"):
        home.compute.detach("local")


def test_a_wrong_key_is_refused_and_nothing_is_kept(home):
    with pytest.raises(ConfigurationError, match="unknown key 'worker'; did you mean 'workers'"):
        home.compute.attach("three", type="local", worker=3)
    with pytest.raises(ConfigurationError, match="no type 'locl'; did you mean 'local'"):
        home.compute.attach("three", type="locl")
    assert "three" not in home.configuration.targets
    assert not (home.folder / "targets.json").exists()


def test_passwords_are_not_shown(home, fleet):
    home.compute.attach("far", type="fleet", switch="ssh://me:secret@host/switch")
    assert home.compute.show("far").options == {"switch": "ssh://host/switch"}


def test_a_managed_target_is_turned_on_and_off(home, fleet, tmp_path):
    home.compute.attach("fleet", switch=str(tmp_path / "switch"))
    assert home.compute.show("fleet").status == "off"
    assert home.compute.start("fleet").status == "on"
    assert home.compute.start("fleet").status == "on", "turning on what is on is harmless"
    assert home.compute.stop("fleet").status == "off"
    with pytest.raises(ConfigurationError, match="'two' of type 'local' cannot be turned on: each run starts"):
        home.compute.start("two")
    with pytest.raises(ConfigurationError, match=r"'targets\.fleet\.swich'; did you mean 'switch'"):
        home.compute.attach("fleet", swich="x")


def test_a_target_whose_package_is_gone_can_still_be_detached(home, tmp_path):
    (home.folder / "targets.json").write_text(json.dumps({"old": {"type": "uninstalled", "address": "x"}}))
    with Workspace.open(tmp_path) as later:
        assert "old" in [one.name for one in later.compute.list()]
        with pytest.raises(ConfigurationError, match="'old' is of type 'uninstalled', which is not known"):
            later.compute.show("old")
        later.compute.detach("old")


def test_the_doctor_names_targets_and_run_configurations_that_are_wrong(home, tmp_path):
    def verdicts():
        with Workspace.open(tmp_path) as later:
            found = {check.name: check for check in workspace_checks(later)}
        return [(found[name].verdict, found[name].text) for name in ("compute targets", "run configurations")]

    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations" / "laptop.toml").write_text("target = 'two'")
    well, laptop = verdicts()
    assert well == ("ok", "inline, local, two; to try one: pipes compute test NAME")
    assert laptop == ("ok", "laptop")
    (tmp_path / "configurations" / "nightly.toml").write_text("target = 'tow'")
    (home.folder / "targets.json").write_text(json.dumps({"old": {"type": "uninstalled"}}))
    (targets, said), (configurations, told) = verdicts()
    assert (targets, configurations) == ("fail", "fail")
    assert "'old' is of type 'uninstalled', which is not known" in said
    assert "nightly.toml: target: there is no target 'tow'; did you mean 'two'" in told


@step
def neighbours(folder: str) -> list[tuple[str, str]]:
    """Wait until this very step is seen on its target; return what is on it."""
    end = time.monotonic() + 30
    with Workspace.open(folder) as home:
        while time.monotonic() < end:
            seen = [(one.node, one.status) for one in home.compute.show("two").steps]
            if ("neighbours", "running") in seen:
                return seen
    return []


def test_what_runs_on_a_target_is_told_while_it_runs(home, tmp_path):
    done = run(neighbours(str(home.folder)), workspace=home, target="two", observers=())
    assert done.output() == [("neighbours", "running")]
    assert home.compute.show("two").steps == ()


# --- tests of targets ---


def inline(folder, name="inline"):
    datastore = LocalDatastore(folder / "datastore")
    return InlineTarget(name, datastore, checkout=folder / "checkout", scratch=folder / "scratch"), datastore


def test_a_probe_tells_round_trip_versions_and_that_the_datastore_is_reached(tmp_path):
    report = probed(*inline(tmp_path), {}, timeout_s=30)
    assert report.well, report
    assert report.datastore
    assert 0 < report.round_trip_s < report.first_s
    assert (report.missing, report.different, report.extra) == ({}, {}, 0)
    assert report.capacity.slots == 1


def test_a_step_that_is_not_done_in_time_is_a_problem_told(tmp_path):
    datastore = LocalDatastore(tmp_path / "datastore")
    slow = LocalTarget("slow", datastore, workers=1, checkout=tmp_path / "c", scratch=tmp_path / "s")
    report = probed(slow, datastore, {}, timeout_s=0.001)
    assert not report.well
    assert report.problem == "the probe step was not done within 0.001 s"


def test_a_target_whose_workers_do_not_reach_the_datastore_is_a_problem_told(tmp_path):
    target, _ = inline(tmp_path / "there")
    report = probed(target, LocalDatastore(tmp_path / "here"), {}, timeout_s=30)
    assert report.problem.startswith("the probe step failed: ")
    assert "blob" in report.problem


def told(**fields):
    usual = {"capacity": Capacity(2.0, slots=2), "python": "3.11.7", "here": "3.11.9", "datastore": True}
    report = ProbeReport("far", **{**usual, **fields})
    return report.well, ["".join(text for text, _ in line) for line in _report_lines(report)]


@pytest.mark.parametrize(
    ("fields", "well", "line"),
    [
        ({}, True, "ok   packages: all that are here are there"),
        ({}, True, "ok   python: 3.11.7 there, 3.11.9 here"),
        ({"python": "3.12.1"}, False, "fail python: 3.12.1 there"),
        ({"datastore": False}, False, "fail datastore: a value came back changed"),
        ({"missing": {"pandas": "2.2"}}, True, "warn packages: not there: pandas 2.2"),
        (
            {"different": {"numpy": ("2.0", "1.26")}},
            True,
            "warn packages: of other versions there: numpy 1.26 (here 2.0)",
        ),
        ({"different": {"mlflow-pipes": ("2", "1")}}, False, "fail packages: of other versions there: mlflow-pipes 1"),
        ({"missing": {f"p{n}": "1" for n in range(10)}}, True, "p7 1, and 2 more (--json)"),
        ({"problem": "no answer"}, False, "fail step: no answer"),
    ],
)
def test_what_differs_there_is_told_and_steps_may_still_run_or_not(fields, well, line):
    found, lines = told(**fields)
    assert found is well
    assert any(line in one for one in lines), lines


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("compute test inline", 0, "a value went there and back"),
        ("compute test nope", 4, "no target 'nope'"),
        ("compute show two", 0, "2 steps at once"),
        ("compute start two", 2, "cannot be turned on"),
        ("compute attach x --type locl", 2, "did you mean 'local'"),
        ("compute attach x --type local --set workers", 2, "is not KEY=VALUE"),
        ("compute add x --type local --set workers=3", 0, "3 steps at once"),
        ("compute detach x", 4, "was not attached"),
    ],
)
def test_commands_end_with_their_exit_codes(home, tmp_path, monkeypatch, capsys, line, code, said):
    monkeypatch.chdir(tmp_path)
    assert pipes(line.split()) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_the_report_can_be_read_by_scripts(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert pipes(["compute", "test", "inline", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["well"] is True
    assert pipes(["compute", "list", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["inline", "local", "two"]
