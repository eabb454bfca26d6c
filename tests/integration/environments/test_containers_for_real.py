"""Steps in a container of an image, which is made here of this interpreter; skipped where podman cannot run one."""

import re
import shutil
import subprocess
import sys
import sysconfig
import time
import uuid
from importlib.metadata import distribution
from pathlib import Path

import pytest

from mlflow_pipes import Environment, Workspace, run
from mlflow_pipes.environments.containers import limits
from mlflow_pipes.errors import WorldError
from mlflow_pipes.workspace.configuration import Configuration
from mlflow_pipes.workspace.logs import read_log
from mlflow_pipes.workspace.target_configuration import TargetConfiguration
from tests.integration.environments.steps_in_containers import all_of_them

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NEEDED = ("blake3", "cloudpickle", "typing-extensions")
LEFT_OUT = ("test", "site-packages", "__pycache__", "idlelib", "lib2to3", "config-*", "*.a", "ensurepip", "tkinter")


def podman(*words: str, given=None) -> str:
    done = subprocess.run(["podman", *words], stdin=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorldError(done.stderr.strip()[-300:])
    return done.stdout.strip()


def fill(root: Path) -> None:
    """Lay out this interpreter, its library, a shell and what all these link to."""
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    prefix = root / "opt" / "python"
    shutil.copytree(library, prefix / "lib" / library.name, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    (prefix / "bin").mkdir()
    programs = [(Path(sys.executable).resolve(), prefix / "bin" / "python"), (Path("/bin/sh"), root / "bin" / "sh")]
    (root / "bin").mkdir()
    (root / "tmp").mkdir(mode=0o1777)
    for source, target in programs:
        shutil.copy(source.resolve(), target)
    (root / "bin" / "python").symlink_to("/opt/python/bin/python")
    packages = prefix / "lib" / library.name / "site-packages"
    for name in NEEDED:
        for file in distribution(name).files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    linking = [target for _, target in programs] + [*prefix.rglob("*.so")]
    told = subprocess.run(["ldd", *linking], capture_output=True, text=True, check=False).stdout
    for found in set(re.findall(r"(/\S+) \(0x", told)):
        target = root / found.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, target)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed; on Debian: apt-get install podman runc")
    root = tmp_path_factory.mktemp("root")
    fill(root)
    name = f"localhost/pipes-test-{uuid.uuid4().hex[:8]}:1"
    with subprocess.Popen(["tar", "--create", "--directory", root, "."], stdout=subprocess.PIPE) as packed:
        try:
            podman("import", "--quiet", "-", name, given=packed.stdout)
        except WorldError as error:
            pytest.skip(f"podman cannot make images here: {error}")
    shutil.rmtree(root)
    try:
        podman("run", "--rm", "--network=host", *limits(), name, "python", "-c", "import blake3, cloudpickle")
        yield name
    except WorldError as error:
        pytest.skip(f"podman cannot run containers here: {error}")
    finally:
        subprocess.run(["podman", "rmi", "--force", name], capture_output=True, check=False)


def test_steps_in_containers_are_done_timed_out_and_missed_as_elsewhere(image, tmp_path):
    file = tmp_path / "input.txt"
    file.write_text("read in a container")
    packed = Environment(image=image, environ={"COLOUR": "red"}, name="packed")
    configuration = Configuration(
        folder=tmp_path,
        workspace=tmp_path / ".pipes",
        environments={"packed": packed},
        targets={"local": TargetConfiguration("local", "local", {"workers": 3})},
    )
    with Workspace.open(configuration=configuration) as home:
        done = run(all_of_them(file), workspace=home, observers=(), raise_on_failure=False)
        assert done.step("inside").output() == ["read in a container", "red", "/opt/python", "False"]
        assert [line.text for line in read_log(home.folder, done.id)] == ["written in a container"]
        failures = {node: done.step(node).failure.message for node in ("slow", "dies")}
        assert "took longer than timeout_s=0.5" in failures["slow"]
        assert failures["dies"] == "its worker process exited with code 3"
        again = run(all_of_them(file), workspace=home, observers=(), raise_on_failure=False)
        assert again.step("inside").reused
    deadline = time.monotonic() + 60.0
    while containers_of(image):  # each ends when its connection does, and is removed then
        assert time.monotonic() < deadline, "containers are gone soon after the run is over"
        time.sleep(0.05)


def containers_of(image: str) -> str:
    return podman("ps", "--all", "--filter", f"ancestor={image}", "--format", "{{.Names}}")
