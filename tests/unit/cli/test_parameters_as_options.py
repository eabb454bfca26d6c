from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from mlflow_pipes.cli.parameters import arguments_given, options_for


def given(function, *args, taken=()):
    """Return what *function* would be called with for a command line."""
    seen = {}

    @click.pass_context
    def callback(ctx, **_):
        seen.update(arguments_given(ctx))

    command = click.Command("test", params=list(options_for(function, taken=taken)), callback=callback)
    result = CliRunner().invoke(command, list(args), catch_exceptions=False)
    if result.exit_code:
        raise ValueError(result.output)
    return seen


def help_of(function):
    command = click.Command("test", params=list(options_for(function)))
    return CliRunner().invoke(command, ["--help"]).output


def flights(
    folder: Path, depths: tuple[int, ...] = (4, 8), *, kind: Literal["a", "b"] = "a", fast: bool = False, _seed=0
):
    """Learn delays.

    Args:
        folder: where the tables are.
        depths: of the trees,
            each tried.
    """


def test_only_what_is_given_is_passed_so_that_defaults_stay_the_functions():
    assert given(flights, "--folder", "data") == {"folder": Path("data")}


def test_every_kind_of_parameter_can_be_given():
    line = ["--folder", "d", "--depths", "4,8", "--depths", "12", "--kind", "b", "--fast", "--seed", "7"]
    assert given(flights, *line) == {"folder": Path("d"), "depths": (4, 8, 12), "kind": "b", "fast": True, "_seed": 7}


def test_a_flag_can_be_denied():
    def f(fast: bool = True): ...

    assert given(f, "--no-fast") == {"fast": False}


def test_a_flag_without_default_must_be_given():
    def f(fast: bool): ...

    with pytest.raises(ValueError, match="Missing option '--fast'"):
        given(f)


def test_a_missing_parameter_is_named():
    with pytest.raises(ValueError, match="Missing option '--folder'"):
        given(flights)


def test_a_required_list_must_be_given():
    def f(depths: list[int]): ...

    with pytest.raises(ValueError, match="Missing option '--depths'"):
        given(f)
    assert given(f, "--depths", "1") == {"depths": [1]}


def test_a_wrong_value_is_told_with_its_option():
    with pytest.raises(ValueError, match="Invalid value for '--depths': 'x' is not a whole number"):
        given(flights, "--folder", "d", "--depths", "4,x")


def test_an_optional_list_can_be_none():
    def f(depths: list[int] | None = (1,)): ...  # type: ignore[assignment]

    assert given(f, "--depths", "none") == {"depths": None}


def test_a_parameter_called_like_an_option_of_ours_gets_another_name():
    def f(target: str = "", json: bool = False): ...

    assert given(f, "--param-target", "x", "--param-json", taken={"target", "json"}) == {"target": "x", "json": True}


def test_without_annotation_the_default_tells_the_type():
    def f(n=3, ratio=0.5, name="x", anything=None): ...

    assert given(f, "--n", "4", "--ratio", "1", "--name", "7", "--anything", "[1, 2]") == {
        "n": 4, "ratio": 1.0, "name": "7", "anything": [1, 2],
    }  # fmt: skip


def test_a_parameter_that_no_text_can_say_is_left_out_when_it_has_a_default():
    class Frame: ...

    def f(n: int, frame: Frame = Frame()): ...  # noqa: B008

    assert [option.parameter for option in options_for(f)] == ["n"]


def test_a_parameter_that_no_text_can_say_and_has_no_default_is_an_error():
    class Frame: ...

    def f(frame: Frame): ...

    with pytest.raises(click.UsageError, match="'frame' is a"):
        options_for(f)


def test_help_is_taken_from_the_signature_and_the_docstring():
    text = " ".join(help_of(flights).split())
    assert "--folder PATH where the tables are. [required]" in text
    assert "--depths INTEGER,... of the trees, each tried." in text
    assert "[default: 4,8]" in text
    assert "--kind a|b [default: a]" in text
    assert "--fast / --no-fast [default: false]" in text
