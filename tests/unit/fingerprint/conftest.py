"""Small projects written to a folder, imported fresh, fingerprinted, and unloaded again."""

import importlib
import sys
from contextlib import contextmanager

import pytest

from mlflow_pipes.fingerprint.code import fingerprint

BASE = {
    "pipes.toml": "",
    "flow.py": '''
"""A pipeline."""
import functools

import helpers
from helpers import scaled
from settings import FACTOR

LIMIT = 10


def tidy(row):
    return row[:LIMIT]


def unrelated():
    return "nobody calls me"


class Model(helpers.Estimator):
    depth = 3

    def fit(self, rows):
        return self.start(rows)


def train(rows: list, depth: int = 3):
    """Train."""
    model = Model()
    return model.fit([scaled(tidy(row)) * FACTOR for row in rows])
''',
    "helpers.py": """
from deeper import rounded


class Estimator:
    def start(self, rows):
        return sum(rows)


def scaled(value):
    return rounded(value) / 2


def unused(value):
    return value
""",
    "deeper.py": """
DIGITS = 2


def rounded(value):
    return round(value, DIGITS)


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)
""",
    "settings.py": "FACTOR = 2\n",
}


class Projects:
    """Writes each variant of a project into a folder of its own."""

    def __init__(self, folder):
        self._folder = folder
        self._count = 0

    def write(self, files):
        self._count += 1
        root = self._folder / f"checkout{self._count}"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    @contextmanager
    def loaded(self, files, module="flow", path=""):
        root = self.write(files)
        before = set(sys.modules)
        sys.path.insert(0, str(root / path))
        importlib.invalidate_caches()
        try:
            yield importlib.import_module(module)
        finally:
            sys.path.remove(str(root / path))
            for name in set(sys.modules) - before:
                if str(root) in str(
                    getattr(sys.modules[name], "__file__", None) or getattr(sys.modules[name], "__path__", "")
                ):
                    del sys.modules[name]

    def fingerprint(self, files, step="train", module="flow", path="", **options):
        with self.loaded(files, module, path) as loaded:
            function = loaded
            for name in step.split("."):
                function = getattr(function, name)
            return fingerprint(function, **options)

    def digest(self, files, step="train", module="flow", path="", **options):
        return self.fingerprint(files, step, module, path, **options).digest

    def source(self, text, step="train", **options):
        """Fingerprint ``train`` of a project of one file."""
        return self.fingerprint({"pipes.toml": "", "flow.py": text}, step, **options)


@pytest.fixture
def projects(tmp_path):
    return Projects(tmp_path)


@pytest.fixture
def edited(projects):
    """Whether an edit changes the digest of the project's step ``train``."""

    def edit(file, old, new, step="train"):
        assert old in BASE[file]
        changed = BASE | {file: BASE[file].replace(old, new)}
        return projects.digest(BASE, step) != projects.digest(changed, step)

    return edit


@pytest.fixture
def base():
    return dict(BASE)
