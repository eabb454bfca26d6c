"""How a worker finds a function: by its natural module name, or by value; or an error that says what to do."""

import pickle
from pathlib import Path

import pytest

from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.fingerprint.code import fingerprint
from mlflow_pipes.fingerprint.distributions import distribution_of
from mlflow_pipes.fingerprint.project import is_first_party, natural_module, project_root
from mlflow_pipes.fingerprint.reference import reference
from mlflow_pipes.model.step import CodeFingerprint, ImportedFunction, PickledFunction

NONE = CodeFingerprint("")


def test_a_function_in_a_file_is_found_by_import(projects):
    files = {"pipes.toml": "", "pkg/__init__.py": "", "pkg/flow.py": "def train():\n    return 1\n"}
    with projects.loaded(files, "pkg.flow") as flow:
        code = fingerprint(flow.train)
        found = reference(flow.train, code)
    root = Path(flow.__file__).parents[1]
    assert found == ImportedFunction("pkg.flow", "train", str(root / "pkg/flow.py"), str(root), code.sources)


def test_a_decorated_function_is_found_where_it_is_written(projects):
    decorators = "import functools\n\ndef loud(f):\n    @functools.wraps(f)\n    def inner(*args):\n        return f(*args)\n    return inner\n"
    files = {
        "decorators.py": decorators,
        "flow.py": "from decorators import loud\n\n@loud\ndef train():\n    return 1\n",
    }
    with projects.loaded(files) as flow:
        found = reference(flow.train, NONE)
    assert (found.module, found.qualname, Path(found.file).name) == ("flow", "train", "flow.py")


def test_a_static_method_is_found_in_its_class(projects):
    with projects.loaded({"flow.py": "class Steps:\n    @staticmethod\n    def train():\n        return 1\n"}) as flow:
        assert reference(flow.Steps.train, NONE).qualname == "Steps.train"


def test_a_nested_function_in_a_file_is_refused_with_the_remedy():
    def inner():
        return 1

    with pytest.raises(
        DeclarationError, match=r"inner \(test_function_reference\.py:\d+\) is defined inside .*Move it to the top"
    ):
        reference(inner, NONE)


def test_a_lambda_in_a_file_is_refused_with_the_remedy():
    with pytest.raises(DeclarationError, match=r"a lambda .* Write it as a def"):
        reference(lambda x: x, NONE)


def test_functions_of_a_notebook_travel_by_value_nested_ones_too():
    variables = {"__name__": "__main__"}
    exec(
        compile(
            "y = 1\ndef make():\n    def inner(x):\n        return x + y\n    return inner\nf = make()\ng = lambda x: x\n",
            "<cell>",
            "exec",
        ),
        variables,
    )
    found = reference(variables["f"], NONE)
    assert isinstance(found, PickledFunction)
    assert pickle.loads(found.payload)(2) == 3
    assert isinstance(reference(variables["g"], NONE), PickledFunction)


def test_a_notebook_function_that_cannot_be_pickled_is_refused():
    variables = {"__name__": "__main__"}
    exec(
        compile("import threading\nlock = threading.Lock()\ndef f(x):\n    with lock: return x\n", "<cell>", "exec"),
        variables,
    )
    with pytest.raises(DeclarationError, match="f must travel to the worker by value"):
        reference(variables["f"], NONE)


def test_the_project_is_the_nearest_folder_with_a_mark(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").touch()
    assert project_root(inner / "flow.py") == tmp_path / "a"
    (inner / "pipes.toml").touch()
    assert project_root(inner / "sub.py") == tmp_path / "a"  # remembered for the life of the process
    assert project_root(Path("/nowhere/at/all/flow.py")) == Path("/nowhere/at/all")


def test_the_users_code_is_told_from_everybody_elses():
    import hypothesis

    import mlflow_pipes

    assert is_first_party(__file__)
    assert not is_first_party(mlflow_pipes.__file__)
    assert not is_first_party(hypothesis.__file__)
    assert not is_first_party(pickle.__file__)
    assert is_first_party("/home/ann/project/flow.py")
    assert not is_first_party("/home/ann/project/.venv/lib/python3.11/site-packages/x/y.py")


def test_natural_names_come_from_packages_or_the_stem(tmp_path):
    for folder in ("pkg", "pkg/sub"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    assert natural_module(tmp_path / "script.py") == ("script", tmp_path)
    assert natural_module(tmp_path / "pkg/sub/flow.py") == ("pkg.sub.flow", tmp_path)
    assert natural_module(tmp_path / "pkg/sub/__init__.py") == ("pkg.sub", tmp_path)


def test_distributions_are_found_by_module_file():
    from importlib.metadata import version
    from importlib.util import find_spec

    for module, distribution in {
        "numpy": "numpy",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
        "mlflow": "mlflow",
    }.items():
        file = find_spec(module).origin  # found, not imported
        assert distribution_of(file) == (distribution, version(distribution))
    assert distribution_of("/home/ann/project/flow.py") is None
