"""Every code block of README and docs is carried out, in order, in an empty folder per page.

- a block whose first line is ``# file: NAME`` is written to that file;
- another ``python`` block is run as a script;
- in a ``console`` block each line after ``$`` is run by a shell and must succeed (or exit as ``# exits with N`` after
  it says); the lines below it must be part of its output, in order, where ``…`` stands for anything;
- a ``sh`` block may only hold ``make`` targets and commands for a fresh machine; the targets must exist.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "console", "sh", "toml", "text", "json"}

pytestmark = pytest.mark.integration


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run_shell(command: str, folder: Path) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "PIPES_DISPLAY": "plain", "COLUMNS": "140", "NO_COLOR": "1"}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environ, capture_output=True, text=True, timeout=200, check=False
    )


def check_console(text: str, folder: Path) -> None:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip().splitlines()
        command, _, exits = command.partition("  # exits with ")
        done = run_shell(command, folder)
        said = f"$ {command}\n{done.stdout}{done.stderr}"
        assert done.returncode == int(exits or 0), said
        rest = done.stdout + done.stderr
        for line in expected:
            if line.strip() in {"", "…"}:
                continue
            pattern = r"[^\n]*?".join(re.escape(piece) for piece in re.sub(r"\s+", " ", line.strip()).split("…"))
            found = re.search(pattern.replace(r"\ ", r"\s+"), rest)
            assert found, f"not in the output: {line!r}\n{said}"
            rest = rest[found.end() :]


def check_block(language: str, text: str, folder: Path) -> None:
    name = re.match(r"# file: (\S+)\n", text)
    if name:
        file = folder / name[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text[name.end() :], encoding="utf-8")
    elif language == "python":
        (folder / "block.py").write_text(text, encoding="utf-8")
        done = run_shell(f"{sys.executable} block.py", folder)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    elif language == "console":
        check_console(text, folder)
    elif language == "sh":
        for target in re.findall(r"^make (\w+)", text, flags=re.MULTILINE):
            assert f"\n{target}:" in (PROJECT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: str(p.relative_to(PROJECT)))
def test_every_code_block_of_the_page_does_what_it_says(page, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pipes.toml").write_text("", encoding="utf-8")
    for language, text in blocks(page):
        assert language in LANGUAGES, f"{page.name}: a block in {language} is not carried out by any test"
        check_block(language, text, folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.relative_to(PROJECT)} links to {target}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_every_test_that_a_page_names_is_there(page):
    named = set(re.findall(r"`(test_[a-z0-9_]{20,})`", page.read_text(encoding="utf-8")))
    tests = [*(PROJECT / "tests").rglob("test_*.py"), *(PROJECT / "mlflow_pipes" / "testing").glob("*.py")]
    there = {
        name for file in tests if named for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
    }
    assert named <= there
