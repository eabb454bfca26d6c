"""Secrets are shown as ***."""

from mlflow_pipes.worker.secrets import Mask, values, variable


def test_the_variable_of_a_name_is_upper_case():
    assert variable("my.api-key") == "PIPES_SECRET_MY_API_KEY"


def test_only_variables_of_secrets_are_masked():
    environ = {"PIPES_SECRET_A": "hidden", "HOME": "/root"}
    assert values(environ) == {"hidden"}


def test_each_line_of_a_secret_is_masked():
    mask = Mask(values({"PIPES_SECRET_KEY": "BEGIN KEY\nabcdef\nEND KEY"}))
    assert mask("abcdef") == "***"
    assert mask("x BEGIN KEY y") == "x *** y"


def test_a_secret_that_begins_another_leaves_no_tail():
    assert Mask(["pass", "password"])("password pass") == "*** ***"


def test_values_too_short_to_be_secret_are_let_through():
    assert Mask(values({"PIPES_SECRET_A": "1", "PIPES_SECRET_B": ""}))("11") == "11"


def test_without_secrets_a_text_is_itself():
    assert Mask(())("text") == "text"


def test_letters_that_mean_something_in_patterns_are_masked_as_they_are():
    assert Mask(["a+b(c"])("a+b(c aab(c") == "*** aab(c"
