"""``[environments.NAME]`` in the configuration."""

import pytest

from mlflow_pipes import Environment
from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.workspace.configuration import load


def configured(folder, text):
    (folder / "pipes.toml").write_text(text)
    return load(folder, environ={}).environments


def test_environments_are_read(tmp_path):
    read = configured(
        tmp_path,
        """
        [environments.training]
        requirements = ["scikit-learn==1.5.2"]
        python = "3.12"
        environ = { OMP_NUM_THREADS = "1" }
        [environments.listed]
        requirements = "requirements.txt"
        [environments.old]
        interpreter = "../old/bin/python"
        [environments.packed]
        image = "registry/image:1"
        """,
    )
    assert read["training"] == Environment(
        requirements=("scikit-learn==1.5.2",), python="3.12", environ={"OMP_NUM_THREADS": "1"}, name="training"
    )
    kinds = {name: one.kind for name, one in read.items()}
    assert kinds == {
        "training": "requirements",
        "listed": "requirements",
        "old": "interpreter",
        "packed": "container",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[environments.a]\nrequirement = ['x']",
            "unknown key 'environments.a.requirement'; did you mean 'requirements'",
        ),
        ("[environments.a]\nrequirements = [1]", "environments.a.requirements must be a list such as"),
        ("[environments.a]\nrequirements = []", "environments.a.requirements must be a list such as"),
        ("[environments.a]\nenviron = {A = 1}", "environments.a.environ"),
        ("[environments.a]", "environment 'a': an environment is made of one of"),
        ("[environments.a]\nimage = 'x'\nconda = 'y'", "not conda and image"),
        ("[environments.default]\nimage = 'x'", "'default' names the interpreter that declares pipelines"),
        ("[environments]\na = 1", "environments.a must be a table"),
    ],
)
def test_mistakes_are_told_with_file_and_key(tmp_path, text, told):
    with pytest.raises(ConfigurationError, match=r"pipes\.toml") as caught:
        configured(tmp_path, text)
    assert told in str(caught.value)
