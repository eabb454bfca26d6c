"""References become functions, once per process, and only of the fingerprinted source."""

import itertools
import os
import sys
import textwrap

import cloudpickle
import pytest

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.model.step import ImportedFunction, PickledFunction
from mlflow_pipes.worker.context import importing_user_module
from mlflow_pipes.worker.functions import FunctionNotFoundError, Functions
from mlflow_pipes.worker.sources import SourceChangedError

_numbers = itertools.count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)

    def write(text, name=None):
        file = tmp_path / f"{name or f'written_{next(_numbers)}_{os.getpid()}'}.py"
        file.write_text(textwrap.dedent(text))
        return file

    yield write
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


def of(file, qualname, *more):
    sources = tuple((str(one), digest_bytes(one.read_bytes()).hash) for one in (file, *more))
    return ImportedFunction(file.stem, qualname, str(file), str(file.parent), sources)


def test_a_function_is_imported_once(write):
    functions = Functions()
    file = write("calls = []\ncalls.append(1)\ndef f(x): return (x, len(calls))")
    assert functions.find(of(file, "f")).call({"x": 1}) == (1, 1)
    assert functions.find(of(file, "f")).call({"x": 2}) == (2, 1)


def test_the_function_behind_a_steps_wrapper_is_called(write):
    file = write(
        """
        class Step:
            def __init__(self, function): self.function = function
            def __call__(self, *args): raise AssertionError("a step call is lazy")
        @Step
        def f(x): return x + 1
        """
    )
    assert Functions().find(of(file, "f")).call({"x": 1}) == 2


def test_a_method_is_found_by_its_dotted_path(write):
    file = write("class A:\n    @staticmethod\n    def f(x): return x")
    assert Functions().find(of(file, "A.f")).call({"x": 1}) == 1


@pytest.mark.parametrize(
    ("signature", "arguments", "result"),
    [
        ("a, b=2", {"a": 1}, (1, 2)),
        ("a, /, b", {"a": 1, "b": 2}, (1, 2)),
        ("a, *b", {"a": 1, "b": (2, 3)}, (1, (2, 3))),
        ("*b, a", {"a": 1, "b": [2]}, (1, (2,))),
        ("a, **b", {"a": 1, "b": {"c": 2}}, (1, {"c": 2})),
    ],
)
def test_arguments_of_every_kind_reach_their_parameter(write, signature, arguments, result):
    file = write(f"def f({signature}): return (a, b)")
    assert Functions().find(of(file, "f")).call(arguments) == result


def test_defaults_before_star_arguments_are_kept(write):
    file = write("def f(a, b=5, *rest): return (a, b, rest)")
    assert Functions().find(of(file, "f")).call({"a": 1, "rest": (7,)}) == (1, 5, (7,))


def test_a_hint_that_cannot_be_resolved_costs_only_itself(write):
    file = write("def f(a: int, b: 'NoSuchName', c: 'str') -> float: ...")
    found = Functions().find(of(file, "f"))
    assert found.wanted["a"] is int
    assert found.wanted["c"] is str
    assert repr(found.wanted["b"]) == "typing.Any"
    assert found.returns is float


def test_hints_of_star_arguments_are_those_of_their_collection(write):
    file = write("def f(*a: int, **b: str): ...")
    found = Functions().find(of(file, "f"))
    assert found.wanted == {"a": tuple[int, ...], "b": dict[str, str]}


def test_an_edited_source_is_refused(write):
    file = write("def f(): return 1")
    reference = of(file, "f")
    file.write_text("def f(): return 2")
    with pytest.raises(SourceChangedError, match=file.name):
        Functions().find(reference)


def test_an_edited_helper_is_refused(write):
    helper = write("def g(): return 1")
    file = write("def f(): return 1")
    reference = of(file, "f", helper)
    helper.write_text("def g(): return 2")
    with pytest.raises(SourceChangedError, match=helper.name):
        Functions().find(reference)


def test_a_source_that_is_gone_is_named(write):
    file = write("def f(): return 1")
    reference = of(file, "f")
    file.unlink()
    with pytest.raises(SourceChangedError, match="cannot be read"):
        Functions().find(reference)


def test_code_in_memory_counts_not_the_file_on_disk(write):
    functions = Functions()
    file = write("def f(): return 1")
    reference = of(file, "f")
    functions.find(reference)
    file.write_text("def f(): return 22")
    assert functions.find(reference).call({}) == 1
    with pytest.raises(SourceChangedError, match="after this process imported it"):
        functions.find(of(file, "f"))


def test_a_reloaded_module_is_of_its_new_content(write):
    import importlib

    functions = Functions()
    file = write("def f(): return 1")
    functions.find(of(file, "f"))
    file.write_text("def f(): return 22")
    importlib.reload(sys.modules[file.stem])
    assert functions.find(of(file, "f")).call({}) == 22


def test_a_helper_imported_later_is_checked_at_each_call(write):
    functions = Functions()
    helper = write("def g(): return 1")
    file = write(f"def f():\n    import {helper.stem}\n    return {helper.stem}.g()")
    reference = of(file, "f", helper)
    functions.find(reference)
    helper.write_text("def g(): return 22")
    with pytest.raises(SourceChangedError, match=helper.name):
        functions.find(reference)


def test_a_name_that_is_missing_says_where_steps_are_defined(write):
    file = write("if __name__ == '__main__':\n    def f(): ...")
    with pytest.raises(FunctionNotFoundError, match="module level"):
        Functions().find(of(file, "f"))


def test_two_modules_of_one_name_are_told_apart(write, tmp_path):
    file = write("def f(): ...", name="colorsys")
    import colorsys  # noqa: F401

    with pytest.raises(FunctionNotFoundError, match="two modules have one name"):
        Functions().find(of(file, "f"))


def test_the_running_script_is_not_imported_a_second_time(write, monkeypatch):
    file = write("raise AssertionError('imported again')")
    main = type(sys)("__main__")
    main.__file__ = str(file)
    main.f = lambda: "from main"
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert Functions().find(of(file, "f")).call({}) == "from main"


def test_a_module_sees_that_it_is_imported_for_its_functions(write):
    file = write(
        "from mlflow_pipes.worker.context import importing_user_module\nseen = importing_user_module()\ndef f(): return seen"
    )
    assert Functions().find(of(file, "f")).call({}) == file.stem
    assert importing_user_module() is None


def test_an_import_that_fails_is_tried_again(write, monkeypatch):
    file = write("import os\nif 'PIPES_TEST_BROKEN' in os.environ: raise ValueError('broken')\ndef f(): return 1")
    functions = Functions()
    monkeypatch.setenv("PIPES_TEST_BROKEN", "1")
    with pytest.raises(ValueError, match="broken"):
        functions.find(of(file, "f"))
    monkeypatch.delenv("PIPES_TEST_BROKEN")
    assert functions.find(of(file, "f")).call({}) == 1


def test_a_pickled_function_is_unpickled_once():
    made = []

    def f(x):
        return x + len(made)

    payload = cloudpickle.dumps(f)
    functions = Functions()
    one = functions.find(PickledFunction("f", payload))
    assert one.call({"x": 1}) == 1
    assert functions.find(PickledFunction("f", bytes(payload))) is one
