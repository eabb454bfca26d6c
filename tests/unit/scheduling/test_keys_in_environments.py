"""What of an environment is in a step's key."""

from dataclasses import replace

import pytest

from mlflow_pipes.errors import DeclarationError
from mlflow_pipes.fingerprint.code import fingerprint
from mlflow_pipes.model.environment import Environment, ResolvedEnvironment
from mlflow_pipes.scheduling.keys import code_in

LOCKED = ResolvedEnvironment("old", "requirements", "d1", "3.11", {"cloudpickle": "2.0", "six": "1.16.0"})
INSTALLED = replace(LOCKED, name="other", kind="interpreter")


def pickled(x):
    import cloudpickle

    return cloudpickle.dumps(x)


def not_installed(x):
    from nowhere_to_be_found import thing

    return thing(x)


def test_code_in_an_environment_has_its_versions_and_a_digest_of_its_own():
    code = fingerprint(pickled)
    inside = code_in(LOCKED, code)
    assert inside.digest != code.digest
    versions = {leaf.name: leaf.digest for leaf in inside.leaves if leaf.kind in {"python", "distribution"}}
    assert versions == {"cloudpickle": "2.0", "python": "3.11"}
    assert inside.sources == code.sources


def test_two_machines_with_other_versions_give_one_key_in_one_environment():
    code = fingerprint(pickled)
    leaves = tuple(replace(leaf, digest="9.9") if leaf.kind == "distribution" else leaf for leaf in code.leaves)
    elsewhere = replace(code, digest="of another machine", leaves=leaves)
    assert code_in(LOCKED, elsewhere).digest == code_in(LOCKED, code).digest


def test_names_and_commands_of_environments_are_in_no_key():
    code = fingerprint(pickled)
    renamed = replace(LOCKED, name="new", command=("/elsewhere/python",), environ={"OMP_NUM_THREADS": "1"})
    assert code_in(renamed, code).digest == code_in(LOCKED, code).digest


def test_all_that_is_locked_is_in_the_key():
    code = fingerprint(pickled)
    other = replace(LOCKED, digest="d2", packages={"cloudpickle": "2.0", "six": "1.17.0"})
    assert code_in(other, code).digest != code_in(LOCKED, code).digest
    (leaf,) = [leaf for leaf in code_in(other, code).leaves if leaf.kind == "environment"]
    assert leaf.digest == "python==3.11 cloudpickle==2.0 six==1.17.0"


def test_of_an_interpreter_only_what_the_code_reaches_is_in_the_key():
    code = fingerprint(pickled)
    unrelated = replace(INSTALLED, digest="d2", packages={"cloudpickle": "2.0", "six": "1.17.0"})
    related = replace(INSTALLED, packages={"cloudpickle": "3.0"})
    older = replace(INSTALLED, python="3.10")
    digests = {code_in(one, code).digest for one in (INSTALLED, unrelated)}
    assert len(digests) == 1
    assert digests.isdisjoint({code_in(one, code).digest for one in (related, older, LOCKED)})


def test_the_shape_of_code_does_not_tell_whether_a_package_is_installed_here(tmp_path, monkeypatch):
    before = fingerprint(not_installed)
    package = tmp_path / "site-packages" / "nowhere_to_be_found"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def thing(x): return x\n")
    metadata = tmp_path / "site-packages" / "nowhere_to_be_found-1.0.dist-info"
    metadata.mkdir()
    (metadata / "RECORD").write_text("nowhere_to_be_found/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    after = fingerprint(not_installed)
    assert "nowhere-to-be-found" in after.distributions
    assert before.digest != after.digest
    assert before.shape == after.shape


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "none is given"),
        ({"image": "a", "interpreter": "b"}, "not interpreter and image"),
        ({"image": "a", "python": "3.12"}, "python='3.12' is for requirements"),
    ],
)
def test_an_environment_is_made_of_one_thing(options, told):
    with pytest.raises(DeclarationError, match=told):
        Environment(**options)
