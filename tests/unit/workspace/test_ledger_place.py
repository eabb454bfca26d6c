import re

import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.workspace.configuration import load
from mlflow_pipes.workspace.ledger.place import parse_place

SECRETS = ("zq/vv", "zq#vv", "zq?vv", "12/34", "12#34", "zq@vv/x", "zq:vv/1")


def test_every_part_of_the_url_is_taken():
    place = parse_place(
        "postgresql://ann:${PW}@db.example.com:5433/work?schema=team_a&sslmode=require", {"PW": "p%40@"}, "x"
    )
    assert (place.user, place.password, place.host, place.port) == ("ann", "p%40@", "db.example.com", 5433)
    assert (place.database, place.schema, place.options) == ("work", "team_a", {"sslmode": "require"})
    assert str(place) == "postgresql://db.example.com:5433/work?schema=team_a"


def test_what_is_left_out_is_libpqs_choice():
    place = parse_place("postgresql:///work", {}, "x")
    assert (place.user, place.password, place.host, place.port, place.schema) == (None, None, None, None, "pipes")


def test_a_variable_may_stand_for_any_part_or_for_all():
    environ = {"Db_Host": "db", "PORT": "99", "ALL": "postgres://ann:s%2Fx@db:99/work"}
    assert str(parse_place("postgresql://${Db_Host}:${PORT}/work", environ, "x")).startswith("postgresql://db:99/work")
    assert parse_place("${ALL}", environ, "x").password == "s/x"


def test_the_password_is_in_no_text_of_it():
    place = parse_place("postgresql://ann:s3cret@db/work?passfile=s3cret", {}, "x")
    assert "s3cret" not in str(place) + repr(place)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_password_that_is_not_quoted_as_it_must_be_is_refused_and_not_shown(secret):
    with pytest.raises(ConfigurationError, match=r"pipes\.toml: ledger: this is no PostgreSQL URL") as caught:
        parse_place(f"postgresql://ann:{secret}@db/work", {}, "pipes.toml: ledger")
    assert not any(part in str(caught.value) for part in re.split("[/@#?:]", secret) if len(part) > 1)


@pytest.mark.parametrize(
    "written", ["mysql://db/work", "postgresql://db", "work", "postgresql://db:port/work", "sqlite:///x"]
)
def test_another_kind_of_url_is_refused_with_the_form(written):
    with pytest.raises(ConfigurationError, match=r"write postgresql://user:\$\{PASSWORD_VARIABLE\}@host"):
        parse_place(written, {}, "x")


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(ConfigurationError, match=r"variable PW, .* is not set"):
        parse_place("postgresql://ann:${PW}@db/work", {}, "x")


@pytest.mark.parametrize("schema", ["Team", "1a", "a-b", "pg_x", "a" * 64, 'x";--'])
def test_a_schema_that_would_need_quotes_is_refused(schema):
    with pytest.raises(ConfigurationError, match="schema must be named"):
        parse_place(f"postgresql://db/work?schema={schema}", {}, "x")


def test_the_environment_comes_before_the_file_and_a_folder_given_by_hand_has_its_own(tmp_path):
    (tmp_path / "pipes.toml").write_text('ledger = "postgresql://db/file"')
    assert load(tmp_path, environ={}).ledger.database == "file"
    assert load(tmp_path, environ={"PIPES_LEDGER": "postgresql://db/environment"}).ledger.database == "environment"
    assert load(tmp_path, workspace="elsewhere", environ={}).ledger is None
    assert load(tmp_path, workspace=tmp_path / ".pipes", environ={}).ledger.database == "file"


def test_a_wrong_setting_is_told_with_its_file_but_not_shown(tmp_path):
    (tmp_path / "pipes.toml").write_text('ledger = ["s3cret"]')
    with pytest.raises(ConfigurationError, match=r"pipes\.toml: ledger must be a text") as caught:
        load(tmp_path, environ={})
    assert "s3cret" not in str(caught.value)
