from __future__ import annotations

import posixpath
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.tracking.names import KEY_CHARACTERS, clean_key, clean_values, distinct_keys


@pytest.mark.parametrize(
    ("key", "cleaned"),
    [
        ("rmse", "rmse"),
        ("train[max_depth=8]/rmse", "train.max_depth_8/rmse"),
        ("train[a=1, b='x']/rmse", "train.a_1.b_x/rmse"),
        ("sub/pipe/step[0]/m", "sub/pipe/step.0/m"),
        ("/absolute//twice/", "absolute/twice"),
        ("../up", "__/up"),
        ("per cent %", "per cent _"),
        ("", "_"),
        ("größe", "größe"),
    ],
)
def test_a_key_reads_like_the_original(key: str, cleaned: str) -> None:
    assert clean_key(key) == cleaned


@given(st.text())
def test_mlflow_takes_every_cleaned_key(key: str) -> None:
    cleaned = clean_key(key)
    assert re.fullmatch(r"[/\w.\- ]+", cleaned)  # mlflow.utils.validation, on every system
    assert len(cleaned) <= KEY_CHARACTERS
    assert posixpath.normpath(cleaned) == cleaned
    assert not cleaned.startswith("/")
    assert cleaned != "."


@given(st.lists(st.text(alphabet="ab[]=/ %$", max_size=6), unique=True))
def test_different_keys_have_different_names(keys: list[str]) -> None:
    names = distinct_keys(keys)
    assert len(set(names.values())) == len(keys)


@given(st.lists(st.text(alphabet="ab[]=/ %$", max_size=6), unique=True), st.data())
def test_a_key_keeps_its_name_when_more_keys_follow(keys: list[str], data: st.DataObject) -> None:
    some = keys[: data.draw(st.integers(0, len(keys)))]
    all_names = distinct_keys(keys)
    assert distinct_keys(some) == {key: all_names[key] for key in some}


def test_long_values_are_clipped_visibly() -> None:
    assert clean_values({"a=b": "y" * 20}, 6) == {"a_b": "yyyyy…"}
