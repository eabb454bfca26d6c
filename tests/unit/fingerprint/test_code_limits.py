"""What cannot be followed is refused or warned of, with its name and the ways out; versions stand for other people's code."""

import linecache
import sys
from pathlib import Path

import pytest

from mlflow_pipes.errors import DeclarationError, FingerprintError
from mlflow_pipes.fingerprint import reaches_mlflow
from mlflow_pipes.fingerprint.code import fingerprint

CLIENT = "import threading\n\ndef make():\n    client = threading.Lock()\n    def inner(x):\n        with client:\n            return x\n    return inner\n\nguarded = make()\n\ndef train(x):\n    return guarded(x)\n"


def names(code):
    return {leaf.name for leaf in code.leaves}


# -- refused --------------------------------------------------------------------------------------------------


def test_an_unfingerprintable_closure_is_refused_with_the_variables_name_and_the_ways_out(projects):
    with pytest.raises(FingerprintError, match=r"closure 'client'.*lock.*uses=\[\.\.\.\].*version="):
        projects.source(CLIENT)


def test_a_value_deep_inside_a_closure_is_named_by_its_path(projects):
    text = CLIENT.replace("client = threading.Lock()", "client = {'a': [1, threading.Lock()]}").replace(
        "with client:", "if client:"
    )
    with pytest.raises(FingerprintError, match=r"client\['a'\]\[1\]"):
        projects.source(text)


def test_a_version_or_uses_speaks_for_an_unfingerprintable_closure(projects):
    one, other = projects.source(CLIENT, version="1"), projects.source(CLIENT, version="2")
    assert one.digest != other.digest
    assert "client" in one.warnings[0]
    assert projects.source(CLIENT, uses=["lock 1"]).digest != projects.source(CLIENT, uses=["lock 2"]).digest


def test_a_value_nested_too_deeply_is_refused_by_name(projects):
    text = "def make():\n    deep = []\n    for _ in range(100_000):\n        deep = [deep]\n    def inner():\n        return deep\n    return inner\n\ntrain_inner = make()\n\ndef train():\n    return train_inner()\n"
    with pytest.raises(FingerprintError, match=r"'deep' .* nested too deeply"):
        projects.source(text)


def test_an_unfingerprintable_default_of_a_nested_function_is_refused(projects):
    text = "import threading\n\ndef make():\n    def inner(x, gate=threading.Lock()):\n        return x\n    return inner\n\nguarded = make()\n\ndef train(x):\n    return guarded(x)\n"
    with pytest.raises(FingerprintError, match="default 'gate'"):
        projects.source(text)


def test_an_unfingerprintable_default_at_module_level_counts_by_its_code(projects):
    text = "import threading\n\ndef train(x, gate=threading.Semaphore({})):\n    return x\n"
    assert projects.source(text.format(1)).digest != projects.source(text.format(2)).digest


def test_the_output_of_a_step_used_as_a_global_is_refused(projects):
    class OutputRef:
        __module__ = "mlflow_pipes.authoring.reference"

        def __getattr__(self, name):
            raise AssertionError(name)

    with projects.loaded({"pipes.toml": "", "flow.py": "rows = None\n\ndef train():\n    return rows\n"}) as flow:
        flow.rows = OutputRef()
        with pytest.raises(
            FingerprintError, match=r"flow\.rows is or holds the output of a step.*pass the output as an argument"
        ):
            fingerprint(flow.train)


def test_code_that_was_edited_after_its_import_is_refused(projects, base):
    with projects.loaded(base) as flow:
        Path(flow.__file__).write_text(base["flow.py"].replace("row[:LIMIT]", "row[LIMIT:]"))
        with pytest.raises(FingerprintError, match=r"tidy in memory differs.*flow\.py was edited.*Restart"):
            fingerprint(flow.train)


def test_a_method_that_was_edited_after_its_import_is_refused(projects, base):
    with projects.loaded(base) as flow:
        Path(flow.__file__).write_text(base["flow.py"].replace("self.start(rows)", "self.start(rows[1:])"))
        with pytest.raises(FingerprintError, match=r"Model\.fit in memory differs"):
            fingerprint(flow.train)


def test_edits_after_the_import_that_mean_nothing_are_let_through(projects, base):
    with projects.loaded(base) as flow:
        before = fingerprint(flow.train).digest
        text = "# a comment\n\n" + base["flow.py"].replace('"""Train."""', '"""Train well."""')
        Path(flow.__file__).write_text(text)
        assert fingerprint(flow.train).digest == before


def test_a_constant_that_was_edited_after_its_import_is_refused(projects, base):
    with projects.loaded(base) as flow:
        Path(flow.__file__).with_name("settings.py").write_text("FACTOR = 3\n")
        with pytest.raises(FingerprintError, match=r"settings\.FACTOR is 2 in memory, but 3 in settings\.py.*Restart"):
            fingerprint(flow.train)
        with_version = fingerprint(flow.train, version="1")
        assert "settings.FACTOR" in with_version.warnings[0]


def test_a_computed_constant_is_refused_when_its_module_was_edited_since_it_was_first_looked_at(projects, base):
    with projects.loaded(base | {"settings.py": "FACTOR = 1 + sum([1])\n"}) as flow:
        before = fingerprint(flow.train).digest
        settings = Path(flow.__file__).with_name("settings.py")
        settings.write_text("# only a comment\nFACTOR = 1 + sum([1])\n")
        assert fingerprint(flow.train).digest == before
        settings.write_text("FACTOR = 1 + sum([2])\n")
        with pytest.raises(FingerprintError, match=r"settings\.FACTOR was computed before settings\.py was edited"):
            fingerprint(flow.train)


def test_a_class_attribute_that_is_not_what_its_file_says_is_refused(projects, base):
    with projects.loaded(base) as flow:
        flow.Model.depth = 9
        with pytest.raises(FingerprintError, match=r"Model\.depth is 9 in memory, but 3 in flow\.py"):
            fingerprint(flow.train)


# -- warned of ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("imports", "body"),
    [
        ("import importlib", "importlib.import_module(name)"),
        ("from importlib import import_module", "import_module(name)"),
        ("", "__import__(name)"),
        ("import helpers", "getattr(helpers, name)()"),
        ("", "eval(name)"),
        ("", "exec(name)"),
        ("", "globals()[name]()"),
    ],
)
def test_code_reached_dynamically_gives_a_warning_with_place_and_remedy(projects, imports, body):
    files = {"pipes.toml": "", "helpers.py": "", "flow.py": f"{imports}\n\ndef train(name):\n    return {body}\n"}
    (warning,) = projects.fingerprint(files).warnings
    assert warning.startswith("flow.py:4: flow.train calls ")
    assert "uses=[...]" in warning


def test_getattr_on_data_and_methods_called_eval_give_no_warning(projects):
    text = "def train(frame, name):\n    return getattr(frame, name), frame.eval('a + b')\n"
    assert projects.source(text).warnings == ()


def test_a_dynamic_import_of_a_constant_name_is_followed(projects):
    def digest(value):
        files = {
            "pipes.toml": "",
            "flow.py": "import importlib\n\ndef train():\n    return importlib.import_module('helpers').f()\n",
            "helpers.py": f"def f():\n    return {value}\n",
        }
        return projects.digest(files)

    assert digest(1) != digest(2)


def test_a_constant_that_is_read_from_outside_gives_a_warning_when_only_its_code_counts(projects):
    text = "class Table:\n    __slots__ = ('__weakref__', 'rows')\n\nimport threading\n\ndef load_rows():\n    return threading.Lock()\n\nROWS = load_rows()\nGATE = threading.Lock()\n\ndef train():\n    return ROWS, GATE\n"
    (warning,) = projects.source(text).warnings
    assert warning.startswith("flow.py:9: flow.ROWS counts by the code that makes it, not by its value")


def test_a_name_that_is_not_defined_gives_a_warning(projects):
    (warning,) = projects.source("def train():\n    return nobody\n").warnings
    assert "'nobody'" in warning


# -- said by the user -----------------------------------------------------------------------------------------


def test_a_version_adds_to_the_code(projects, base):
    one = projects.fingerprint(base, version="1")
    assert one.digest != projects.digest(base)
    assert one.digest != projects.digest(base, version="2")
    assert one.digest != projects.digest(base | {"settings.py": "FACTOR = 5"}, version="1")
    assert ("version", "version") in {(leaf.kind, leaf.name) for leaf in one.leaves}


def test_a_version_can_replace_the_code(projects, base):
    one = projects.fingerprint(base, version="1", replace_code=True)
    edited = base | {"settings.py": "FACTOR = 5"}
    assert one.digest == projects.digest(edited, version="1", replace_code=True)
    assert one.digest != projects.digest(base, version="2", replace_code=True)
    assert one.digest != projects.digest(base, version="1")
    assert one.sources == ()
    assert one.digest == projects.source(CLIENT, version="1", replace_code=True).digest


def test_replacing_the_code_needs_a_version(projects, base):
    with pytest.raises(FingerprintError, match="needs version"):
        projects.digest(base, replace_code=True)


def test_uses_adds_functions_values_modules_and_files(projects, base, tmp_path):
    data = tmp_path / "rules.json"

    def digest(rules, helper):
        data.write_text(rules)
        with projects.loaded(base | {"extra.py": f"def f():\n    return {helper}\n"}) as flow:
            sys.path.insert(0, str(Path(flow.__file__).parent))
            import extra

            try:
                return [fingerprint(flow.train, uses=[thing]).digest for thing in (data, extra, extra.f, {"a": helper})]
            finally:
                sys.path.pop(0)

    one, other = digest("1", 1), digest("2", 2)
    assert len({*one, *other}) == 8


def test_a_file_in_uses_that_is_not_there_is_refused(projects, base, tmp_path):
    with pytest.raises(FingerprintError, match=r"missing\.json"):
        projects.digest(base, uses=[tmp_path / "missing.json"])


def test_a_folder_in_uses_counts_by_its_files(projects, base, tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a").write_text("1")
    one = projects.fingerprint(base, uses=[folder])
    (folder / "b").write_text("2")
    assert one.digest != projects.digest(base, uses=[folder])
    assert (str(folder / "a")) in dict(one.sources)


# -- our own decorators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decorator", ["@step", "@step(cpus=2, retries=3)", "@mlflow_pipes.step(timeout_s=LIMIT)", "@big"]
)
def test_options_of_a_step_are_not_code(projects, decorator):
    text = "import mlflow_pipes\nfrom mlflow_pipes import step\n\nLIMIT = 5\nbig = step(cpus=4)\n\n{}\ndef train(x: int) -> int:\n    return x\n"
    assert projects.source(text.format(decorator)).digest == projects.source(text.format("@step(cpus=1)")).digest
    assert projects.source(text.format(decorator)).digest == projects.source(text.format("")).digest


def test_a_step_used_inside_a_step_counts_by_its_function(projects):
    text = "from mlflow_pipes import step\n\n@step\ndef part(x: int) -> int:\n    return x + {}\n\n@step\ndef train(x: int) -> int:\n    return part(x)\n"
    code = projects.source(text.format(1))
    assert "flow.part" in names(code)
    assert code.digest == projects.source(text.format(1)).digest
    assert code.digest != projects.source(text.format(2)).digest


def test_our_own_package_counts_by_version_for_users_and_by_code_for_its_own_steps(projects, tmp_path):
    text = "import mlflow_pipes\n\ndef train():\n    return mlflow_pipes.current_run()\n"
    code = projects.source(text)
    assert "mlflow-pipes" in code.distributions
    assert len(code.sources) == 1

    library = {
        "mlflow_pipes_steps/__init__.py": "",
        "mlflow_pipes_steps/own.py": "from mlflow_pipes_steps.inner import f\n\ndef train():\n    return f()\n",
        "mlflow_pipes_steps/inner.py": "def f():\n    return {}\n",
    }
    root = projects.write(library)
    import mlflow_pipes_steps

    mlflow_pipes_steps.__path__.append(str(root / "mlflow_pipes_steps"))
    try:
        import mlflow_pipes_steps.own as own

        assert {"mlflow_pipes_steps.own.train", "mlflow_pipes_steps.inner.f"} <= names(fingerprint(own.train))

        def user():
            return own.train()

        theirs = fingerprint(user)
        assert "mlflow_pipes_steps.own.train" not in names(theirs)
        assert "mlflow-pipes" in theirs.distributions
    finally:
        mlflow_pipes_steps.__path__.pop()
        for name in ("own", "inner"):
            sys.modules.pop(f"mlflow_pipes_steps.{name}", None)


# -- other people's code --------------------------------------------------------------------------------------


def installed(version, name="box_of_tools", record="toolbox/__init__.py,sha256=x,1\n"):
    site = "lib/site-packages"
    return {
        "pipes.toml": "",
        f"{site}/toolbox/__init__.py": "def clean(x):\n    return x\n\ndef wrapped(f):\n    def inner(x):\n        return f(x)\n    return inner\n",
        f"{site}/{name}-{version}.dist-info/RECORD": f"{name}-{version}.dist-info/METADATA,,\n{record}",
        f"{site}/other-1.0.dist-info/RECORD": "other/__init__.py,,\n",
        f"{site}/flow_of_someone.py": "",
        "flow.py": "from toolbox import clean\n\ndef train(x):\n    return clean(x)\n",
    }


def test_a_third_party_package_counts_by_distribution_and_version(projects):
    def code(version, edit=""):
        files = installed(version)
        files["lib/site-packages/toolbox/__init__.py"] += edit
        return _flow(projects, files)

    one, same, edited, newer = code("1.0"), code("1.0"), code("1.0", "\nx = 1\n"), code("1.1")
    assert one.digest == same.digest == edited.digest
    assert one.digest != newer.digest
    assert one.distributions == {"box-of-tools"}
    leaf = next(leaf for leaf in newer.leaves if leaf.kind == "distribution")
    assert (leaf.name, leaf.digest, leaf.via) == ("box-of-tools", "1.1", ("flow.train",))


def _flow(projects, files):
    root = projects.write(files)
    site = str(root / "lib/site-packages")
    sys.path.insert(0, site)
    sys.path.insert(0, str(root))
    try:
        import flow

        return fingerprint(flow.train)
    finally:
        sys.path.remove(site)
        sys.path.remove(str(root))
        for name in ("flow", "toolbox"):
            sys.modules.pop(name, None)


def test_the_users_function_inside_a_third_party_wrapper_counts(projects):
    def digest(value):
        files = installed("1.0")
        files["flow.py"] = (
            f"import toolbox\n\n@toolbox.wrapped\ndef helper(x):\n    return x + {value}\n\ndef train(x):\n    return helper(x)\n"
        )
        return _flow(projects, files).digest

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_a_step_reaches_mlflow_by_any_import(projects):
    # through a stand-in, since importing the real one takes seconds
    for text in (
        "import mlflow\n\ndef train():\n    mlflow.log_metric('a', 1)\n",
        "def train():\n    from mlflow import log_metric\n    log_metric('a', 1)\n",
    ):
        files = installed("3.1", name="mlflow_skinny", record="mlflow/__init__.py,,\n")
        files["lib/site-packages/mlflow/__init__.py"] = "def log_metric(key, value): ...\n"
        files["flow.py"] = text
        kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "mlflow"}
        try:
            code = _flow(projects, files)
        finally:
            sys.modules.pop("mlflow", None)
            sys.modules.update(kept)
        assert code.distributions == {"mlflow-skinny"}
        assert reaches_mlflow(code)
    assert not reaches_mlflow(projects.source("def train():\n    return 1\n"))


# -- notebooks ------------------------------------------------------------------------------------------------


def run_cell(number, text, variables):
    name = f"<ipython-input-{number}-test>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), variables)


def test_functions_of_a_notebook_count_by_their_cells_source():
    def digest(limit, number, comment=""):
        variables = {"__name__": "__main__"}
        run_cell(number, f"LIMIT = {limit}\nclass Tool:\n    def cut(self, x):\n        return x[:LIMIT]\n", variables)
        run_cell(number + 1, f"def train(x):\n    {comment}\n    return Tool().cut(x)\n", variables)
        return fingerprint(variables["train"]).digest

    assert digest(1, 1) == digest(1, 5) == digest(1, 9, "# comment")
    assert digest(1, 1) != digest(2, 1)


def test_records_of_a_notebook_count_by_their_fields():
    text = "import dataclasses, enum, typing\n@dataclasses.dataclass\nclass D:\n    x: int = {}\n    y: list = dataclasses.field(default_factory=list)\nclass E(enum.Enum):\n    A = {}\nclass N(typing.NamedTuple):\n    x: int = {}\nclass T(typing.TypedDict):\n    x{}: int\ndef train():\n    return D(), E.A, N(), T(x=1)\n"

    def digest(*values):
        variables = {"__name__": "__main__"}
        run_cell(1, text.format(*values), variables)
        sys.modules["__main__"].__dict__.update({name: variables[name] for name in "DENT"})
        return fingerprint(variables["train"]).digest

    try:
        digests = [
            digest(*values)
            for values in ((1, 1, 1, ""), (1, 1, 1, ""), (2, 1, 1, ""), (1, 2, 1, ""), (1, 1, 2, ""), (1, 1, 1, "y"))
        ]
    finally:
        for name in "DENT":
            del sys.modules["__main__"].__dict__[name]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def test_a_notebook_functions_edit_is_seen_when_the_cell_runs_again():
    variables = {"__name__": "__main__"}
    run_cell(1, "def helper(x):\n    return x\n", variables)
    run_cell(2, "def train(x):\n    return helper(x)\n", variables)
    before = fingerprint(variables["train"]).digest
    run_cell(3, "def helper(x):\n    return x + 1\n", variables)
    assert fingerprint(variables["train"]).digest != before


def test_functions_without_any_source_count_by_their_bytecode():
    def digest(value, doc=""):
        variables = {"__name__": "__main__"}
        text = f"import json\nLIMIT = {value}\nclass Box:\n    size = 1\n    def f(self): return LIMIT\ndef helper(x):\n    return json.dumps(x[:LIMIT])\ndef train(x):\n    {doc!r}\n    from decimal import Decimal\n    return [helper(y) for y in x], Box(), Decimal\n"
        exec(compile(text, "<string>", "exec"), variables)
        return fingerprint(variables["train"])

    one = digest(1)
    assert one.digest == digest(1).digest == digest(1, "doc").digest
    assert one.digest != digest(2).digest
    assert {"__main__.helper", "__main__.LIMIT", "__main__.Box"} <= names(one)


def test_errors_are_declaration_errors():
    assert issubclass(FingerprintError, DeclarationError)
