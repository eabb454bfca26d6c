import sys
import uuid

import pytest

from mlflow_pipes.cli.failures import FileFailedError, tell
from mlflow_pipes.cli.program import load
from mlflow_pipes.errors import ArgumentError, ConfigurationError, DeclarationError, NotFoundError

STEPS = """
from mlflow_pipes import pipeline, step

@step
def double(x: int) -> int:
    return 2 * x
"""
PIPELINE = """
@pipeline
def {name}(x: int = 1):
    return double(x)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file of its own module name, as modules stay imported for the life of the process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    def write(text, name=None):
        file = tmp_path / (name or f"pipes_{uuid.uuid4().hex}.py")
        file.write_text(text)
        return file

    return write


def test_the_only_pipeline_of_a_file_is_taken(write):
    file = write(STEPS + PIPELINE.format(name="flights"))
    program = load(str(file))
    assert program.name == "flights"
    assert program.declared.function.__module__ == file.stem


def test_a_pipeline_is_taken_by_name(write):
    file = write(STEPS + PIPELINE.format(name="flights") + PIPELINE.format(name="trains"))
    assert load(f"{file}:trains").name == "trains"


def test_of_several_pipelines_the_one_that_calls_the_others_is_taken(write):
    around = "\n\n@pipeline\ndef journeys():\n    return [flights() for _ in range(2)]\n"
    assert load(str(write(STEPS + PIPELINE.format(name="flights") + around))).name == "journeys"


def test_of_several_pipelines_one_must_be_named(write):
    file = write(STEPS + PIPELINE.format(name="flights") + PIPELINE.format(name="trains"))
    with pytest.raises(DeclarationError, match=r"declares 2 pipelines \(flights, trains\); name one: .*:flights"):
        load(str(file))


def test_a_near_name_is_suggested(write):
    file = write(STEPS + PIPELINE.format(name="flights"))
    with pytest.raises(NotFoundError, match="did you mean 'flights'"):
        load(f"{file}:flihgts")


def test_a_file_with_one_step_and_no_pipeline_runs_the_step(write):
    assert load(str(write(STEPS))).name == "double"


def test_a_file_that_declares_nothing_says_what_to_write(write):
    with pytest.raises(DeclarationError, match="declares no pipeline: write a function with @pipeline"):
        load(str(write("x = 1")))


def test_pipelines_that_are_only_imported_do_not_count_but_can_be_named(write):
    other = write(STEPS + PIPELINE.format(name="flights"))
    file = write(f"from {other.stem} import flights\n" + STEPS + PIPELINE.format(name="trains"))
    assert load(str(file)).name == "trains"
    assert load(f"{file}:flights").name == "flights"


def test_a_missing_file_suggests_a_near_one(write):
    write(STEPS, "flight_delays.py")
    with pytest.raises(NotFoundError, match=r"did you mean 'flight_delays.py'"):
        load("flight_delay.py")


def test_a_folder_is_not_a_file(write, tmp_path):
    with pytest.raises(NotFoundError, match="is a folder"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["json.py", "numpy.py"])
def test_a_file_named_like_an_installed_module_is_refused(write, name):
    with pytest.raises(ConfigurationError, match="rename the file"):
        load(str(write(STEPS, name)))


def test_a_file_whose_name_is_no_modules_is_refused(write):
    with pytest.raises(ConfigurationError, match="use letters, digits and _"):
        load(str(write(STEPS, "my-pipeline.py")))
    with pytest.raises(ConfigurationError, match="not a Python file"):
        load(str(write(STEPS, "notes.txt")))


def told(error, capsys):
    code = tell(error, sys.stderr)
    return code, capsys.readouterr().err


def test_an_exception_in_the_file_is_told_with_the_users_frames_only(write, capsys):
    file = write("def f():\n    return {}['missing']\n\nf()\n")
    with pytest.raises(FileFailedError) as caught:
        load(str(file))
    code, text = told(caught.value, capsys)
    assert code == 2
    assert text.splitlines()[1:3] == ["Traceback (most recent call last):", f'  File "{file}", line 4, in <module>']
    assert "KeyError: 'missing'" in text
    assert "importlib" not in text
    assert "mlflow_pipes" not in text


def test_a_syntax_error_shows_its_place(write, capsys):
    file = write("def f(:\n    pass\n")
    with pytest.raises(FileFailedError) as caught:
        load(str(file))
    text = told(caught.value, capsys)[1]
    assert f'File "{file}", line 1' in text
    assert "SyntaxError" in text
    assert "cli/program.py" not in text


def test_a_file_that_exits_says_to_guard_it(write):
    with pytest.raises(FileFailedError, match="__name__"):
        load(str(write("import sys\nsys.exit(3)")))


def test_a_declaration_error_shows_the_users_line(write, capsys):
    file = write(STEPS + "\n@pipeline\ndef flights():\n    return double(y=3)\n")
    with pytest.raises(ArgumentError) as caught:
        load(str(file)).call({})
    code, text = told(caught.value, capsys)
    assert code == 2
    assert f"at {file.name}:10 in flights" in text
    assert "return double(y=3)" in text
    assert "Traceback" not in text


def test_what_a_pipeline_function_raises_is_told_as_the_users(write, capsys):
    file = write(STEPS + "\n@pipeline\ndef flights():\n    double(1)\n    return 1 / 0\n")
    with pytest.raises(FileFailedError) as caught:
        load(str(file)).call({})
    text = told(caught.value, capsys)[1]
    assert "ZeroDivisionError" in text.splitlines()[0]
    assert f'File "{file}", line 11, in flights' in text
    assert "authoring" not in text


def test_a_run_at_module_level_is_refused_before_anything_runs(write):
    file = write("from mlflow_pipes import run\n" + STEPS + "print(run(double(1)))\n")
    with pytest.raises(DeclarationError, match="if __name__ == '__main__'"):
        load(str(file))


def test_a_parameter_may_be_called_file(write):
    from mlflow_pipes.cli.commands.run import command

    file = write(STEPS + "@pipeline\ndef count(file: str = 'a', workspace: str = 'b'):\n    return double(len(file))\n")
    options = {name for param in command.for_program(load(str(file))).params for name in param.opts}
    assert {"--file", "--param-workspace"} <= options


def test_files_are_near_by_their_names_and_not_by_their_ending(write):
    write(STEPS, "exits.py")
    with pytest.raises(NotFoundError, match=r"no file 'penguins.py'$"):
        load("penguins.py")
    with pytest.raises(NotFoundError, match=r"did you mean 'exits.py'\?"):
        load("exit.py")
