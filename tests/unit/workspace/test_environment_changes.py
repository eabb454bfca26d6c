"""What is told of an environment that changed."""

from mlflow_pipes.cli.changes import change_lines
from mlflow_pipes.model.step import CodeLeaf
from mlflow_pipes.workspace.explain import Change, Ingredients, changes_text, compare

STEP = CodeLeaf("function", "flow.train", "f")


def code(digest: str, told: str, numpy: str) -> Ingredients:
    reached = CodeLeaf("distribution", "numpy", numpy, ("flow.train",))
    return Ingredients(digest, (reached, CodeLeaf("environment", "packages", told), STEP))


OLD = code("1", "python==3.11 numpy==1.26.4 six==1.16.0", "1.26.4")
NEW = code("2", "python==3.11 numpy==2.0.1 toolz==1.0.0", "2.0.1")


def test_each_package_that_changed_is_told_once_with_its_versions():
    changes = tuple(compare(OLD, NEW))
    assert changes_text(changes) == (
        "environment changed: six 1.16.0 → (none); environment changed: toolz (none) → 1.0.0; "
        "environment changed: numpy 1.26.4 → 2.0.1"
    )
    assert changes[-1] == Change("environment", "numpy", ("flow.train",), "1.26.4", "2.0.1")


def test_it_is_told_when_a_step_begins_to_run_in_an_environment():
    plain = Ingredients("0", (STEP,))
    (there, back) = (compare(plain, NEW), compare(NEW, plain))
    assert "it runs in an environment of its own now" in changes_text(tuple(there))
    assert "it runs in an environment of its own no longer" in changes_text(tuple(back))
    lines = ["".join(text for text, _ in line) for line in change_lines(there)]
    assert "    it runs in an environment of its own now" in lines


def test_versions_of_what_code_reaches_are_told():
    before = Ingredients("0", (CodeLeaf("distribution", "numpy", "1.26.4"), STEP))
    after = Ingredients("1", (CodeLeaf("distribution", "numpy", "2.0.1"), STEP))
    assert changes_text(tuple(compare(before, after))) == "distribution numpy changed (1.26.4 → 2.0.1)"
