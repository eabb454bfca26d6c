"""What several layers write alike."""

import pytest

from mlflow_pipes.credentials import without_credentials
from mlflow_pipes.wording import bytes_in, clipped


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ann:s3cret@host:5000/p", "http://host:5000/p"),
        ("ssh://git@example.com:22/b.git", "ssh://example.com:22/b.git"),
        ("https://me:p@ss@host/x", "https://host/x"),
        ("git@example.com:a/b.git", "git@example.com:a/b.git"),
        ("sqlite:////data/m@x.db", "sqlite:////data/m@x.db"),
        ("http://host/x?mail=a@b", "http://host/x?mail=a@b"),
        ("no answer from http://a:b@c and http://d:e@f", "no answer from http://c and http://f"),
    ],
)
def test_no_password_of_a_url_is_shown(url, shown):
    assert without_credentials(url) == shown


@pytest.mark.parametrize(("text", "size"), [("1024", 1024), ("8GiB", 8 << 30), ("1.5 kB", 1500), ("2m", 2_000_000)])
def test_sizes_are_read_as_people_write_them(text, size):
    assert bytes_in(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "8 GX", "5i"])
def test_what_is_no_size_is_none(text):
    assert bytes_in(text) is None


def test_long_texts_are_clipped_visibly():
    assert clipped("x" * 10, 5) == "xxxx…"
    assert clipped("x" * 5, 5) == "xxxxx"
