from mlflow_pipes.model.step import CodeLeaf
from mlflow_pipes.workspace.explain import Change, Ingredients, compare


def leaf(name, digest, *via, kind="function"):
    return CodeLeaf(kind, name, digest, via)


BEFORE = Ingredients(
    "before",
    (leaf("app.train", "1"), leaf("app.helper", "2", "app.train"), leaf("app.gone", "3", "app.train", "app.helper")),
    {"x": "10", "y": "20", "old": "30"},
)
AFTER = Ingredients(
    "after",
    (leaf("app.train", "1"), leaf("app.helper", "9", "app.train"), leaf("app.new", "4", "app.train", "app.helper")),
    {"x": "10", "y": "21", "new": "31"},
)


def test_the_very_leaves_and_arguments_that_changed_are_named():
    changes = compare(BEFORE, AFTER)
    assert [(change.kind, change.name, change.what) for change in changes] == [
        ("function", "app.helper", "changed"),
        ("function", "app.gone", "removed"),
        ("function", "app.new", "added"),
        ("input", "new", "added"),
        ("input", "old", "removed"),
        ("input", "y", "changed"),
    ]
    assert changes[0] == Change("function", "app.helper", ("app.train",), "2", "9")


def test_nothing_changed_is_no_changes():
    assert compare(BEFORE, BEFORE) == []


def test_code_whose_leaves_are_not_known_is_told_as_a_whole():
    assert compare(Ingredients("before"), AFTER)[0] == Change("code", "code", (), "before", "after")
    assert compare(Ingredients("same"), Ingredients("same", AFTER.code)) == []
