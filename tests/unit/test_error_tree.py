"""The tree of errors as the docstring draws it is the tree of classes."""

import re

import pytest

from mlflow_pipes import errors

BRANCH = re.compile(r"^    (?P<indent>[│ ]*)(?:[├└]── )?(?P<name>\w+(?:Error|Failed))\b", re.MULTILINE)


def drawn() -> dict[str, str | None]:
    """Return each class of the drawing with the one it hangs on."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = BRANCH.match(line)
        if found:
            column = found.start("name")
            above = [(at, name) for at, name in above if at < column]
            parents[found["name"]] = above[-1][1] if above else None
            above.append((column, found["name"]))
    return parents


def classes() -> dict[str, type[errors.PipesError]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, errors.PipesError)
    }


def test_the_drawing_shows_every_error_below_its_parent():
    real = {name: cls.__bases__[0].__name__ for name, cls in classes().items()}
    real["PipesError"] = None
    assert drawn() == real


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_error_says_in_a_line_what_is_wrong_and_has_an_exit_code(name):
    cls = classes()[name]
    assert cls.__doc__
    assert cls.exit_code in {1, 2, 4, 70, 75}
