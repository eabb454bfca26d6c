"""What changes a step's fingerprint, and what does not: one test a kind of edit."""


def names(code):
    return {leaf.name for leaf in code.leaves}


def test_editing_the_step_changes_it(edited):
    assert edited("flow.py", "model = Model()", "model = Model() or None")


def test_editing_a_helper_in_the_same_module_changes_it(edited):
    assert edited("flow.py", "row[:LIMIT]", "row[1:LIMIT]")


def test_editing_a_helper_in_another_module_changes_it(edited):
    assert edited("helpers.py", "/ 2", "/ 3")


def test_editing_a_helpers_helper_changes_it(edited):
    assert edited("deeper.py", "round(value, DIGITS)", "round(value, DIGITS + 1)")


def test_editing_a_constant_in_the_same_module_changes_it(edited):
    assert edited("flow.py", "LIMIT = 10", "LIMIT = 11")


def test_editing_a_constant_in_another_module_changes_it(edited):
    assert edited("settings.py", "FACTOR = 2", "FACTOR = 3")


def test_editing_a_constant_that_a_helper_reads_changes_it(edited):
    assert edited("deeper.py", "DIGITS = 2", "DIGITS = 3")


def test_editing_a_base_classs_method_changes_it(edited):
    assert edited("helpers.py", "sum(rows)", "max(rows)")


def test_editing_a_method_changes_it(edited):
    assert edited("flow.py", "self.start(rows)", "self.start(rows[1:])")


def test_editing_a_class_attribute_changes_it(edited):
    assert edited("flow.py", "depth = 3\n\n    def fit", "depth = 4\n\n    def fit")


def test_editing_a_default_argument_changes_it(edited):
    assert edited("flow.py", "depth: int = 3", "depth: int = 4")


def test_editing_the_annotation_of_a_parameter_changes_it(edited):
    assert edited("flow.py", "rows: list", "rows: tuple")


def test_comments_docstrings_and_formatting_change_nothing(edited):
    assert not edited("flow.py", '    """Train."""\n', '    """Train better."""  # as told\n\n')
    assert not edited("flow.py", '"""A pipeline."""', "# moved down\n\n\n")
    assert not edited("flow.py", "return row[:LIMIT]", "return (row\n        [: LIMIT ])")
    assert not edited("helpers.py", "    def start(self, rows):\n", '    def start(self, rows):\n        """Doc."""\n')


def test_an_unrelated_function_in_the_same_file_changes_nothing(edited):
    assert not edited("flow.py", "nobody calls me", "still nobody")
    assert not edited("helpers.py", "def unused(value):\n    return value", "def unused(value):\n    return 2 * value")


def test_a_new_unrelated_function_above_changes_nothing(edited):
    assert not edited("flow.py", "LIMIT = 10", "def above():\n    return 1\n\n\nLIMIT = 10")


def test_moving_the_project_to_another_folder_changes_nothing(projects, base):
    one, other = projects.fingerprint(base), projects.fingerprint(base)
    assert one.digest == other.digest
    assert one.leaves == other.leaves
    assert one.sources != other.sources


def test_moving_a_file_into_a_package_changes_nothing(projects, base):
    moved = {"src/tools/__init__.py": ""} | {
        name.replace("helpers", "src/tools/helpers"): text for name, text in base.items()
    }
    moved["flow.py"] = (
        base["flow.py"]
        .replace("import helpers", "from src.tools import helpers")
        .replace("from helpers", "from src.tools.helpers")
    )
    moved["src/__init__.py"] = ""
    assert projects.digest(moved) == projects.digest(base)


def test_renaming_the_steps_module_changes_nothing(projects, base):
    renamed = dict(base)
    renamed["other_flow.py"] = renamed.pop("flow.py")
    assert projects.digest(renamed, module="other_flow") == projects.digest(base)


def test_only_the_functions_reached_through_a_module_count(projects):
    code = projects.fingerprint(
        {
            "pipes.toml": "",
            "flow.py": "import helpers\n\ndef train():\n    return helpers.used()\n",
            "helpers.py": "def used():\n    return 1\n\ndef other():\n    return 2\n",
        }
    )
    assert "helpers.used" in names(code)
    assert "helpers.other" not in names(code)


def test_leaves_have_readable_names_and_say_how_they_are_reached(projects, base):
    code = projects.fingerprint(base)
    found = {leaf.name: leaf for leaf in code.leaves}
    assert found["deeper.rounded"].via == ("flow.train", "helpers.scaled")
    assert found["deeper.DIGITS"].kind == "constant"
    assert found["settings.FACTOR"].via == ("flow.train",)
    assert found["flow.train.depth"].kind == "default"
    assert found["flow.Model"].kind == "class"
    assert not any("/" in leaf.name for leaf in code.leaves)
    assert [leaf.name for leaf in code.leaves] == [name for _, name in sorted((x.kind, x.name) for x in code.leaves)]


def test_the_interpreter_counts_by_its_minor_version(projects, base):
    import sys

    leaf = next(leaf for leaf in projects.fingerprint(base).leaves if leaf.kind == "python")
    assert leaf.digest == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_all_files_read_stand_in_the_sources_with_their_hashes(projects, base):
    from pathlib import Path

    from blake3 import blake3

    code = projects.fingerprint(base)
    assert {Path(file).name for file, _ in code.sources} == {"flow.py", "helpers.py", "deeper.py", "settings.py"}
    assert all(blake3(Path(file).read_bytes()).hexdigest() == hash_ for file, hash_ in code.sources)


def test_a_recursive_pair_ends_and_counts_whole(projects, base):
    text = "def train(n):\n    return {0}(n)\n\ndef even(n):\n    return n == 0 or odd(n - 1)\n\ndef odd(n):\n    return n != {1} and even(n - 1)\n"
    one = projects.source(text.format("even", 0))
    assert {"flow.even", "flow.odd"} <= names(one)
    assert one.digest == projects.source(text.format("even", 0)).digest
    assert one.digest != projects.source(text.format("even", 2)).digest
    assert one.digest != projects.source(text.format("odd", 0)).digest


def test_a_function_that_calls_itself_ends(projects):
    text = "def train(n):\n    return 1 if n < 2 else n * train(n - {})\n"
    assert projects.source(text.format(1)).digest != projects.source(text.format(2)).digest


def test_a_partial_counts_by_function_and_arguments(projects):
    text = "import functools\n\ndef power(x, n):\n    return x ** n{}\n\nsquare = functools.partial(power, n={})\n\ndef train(x):\n    return square(x)\n"
    base = projects.source(text.format("", 2)).digest
    assert base == projects.source(text.format("", 2)).digest
    assert base != projects.source(text.format("", 3)).digest
    assert base != projects.source(text.format(" + 1", 2)).digest


def test_a_partial_can_be_the_step_itself(projects):
    text = "import functools\n\ndef power(x, n):\n    return x ** n\n\ntrain = functools.partial(power, n={})\n"
    assert projects.source(text.format(2)).digest != projects.source(text.format(3)).digest


def test_the_value_in_a_closure_counts(projects):
    text = "def make(factor):\n    def inner(x):\n        return x * factor\n    return inner\n\nscale = make({})\n\ndef train(x):\n    return scale(x)\n"
    assert projects.source(text.format(2)).digest != projects.source(text.format(3)).digest


def test_editing_a_decorator_changes_it(projects):
    text = "import functools\n\ndef loud(f):\n    @functools.wraps(f)\n    def inner(*args):\n        print({!r})\n        return f(*args)\n    return inner\n\n@loud\ndef train(x):\n    return x{}\n"
    one = projects.source(text.format("hear", "")).digest
    assert one == projects.source(text.format("hear", "")).digest
    assert one != projects.source(text.format("listen", "")).digest
    assert one != projects.source(text.format("hear", " + 1")).digest


def test_editing_a_function_behind_lru_cache_changes_it(projects):
    text = "import functools\n\n@functools.lru_cache(maxsize={})\ndef slow(x):\n    return x + {}\n\ndef train(x):\n    return slow(x)\n"
    one = projects.source(text.format(3, 1)).digest
    assert one != projects.source(text.format(3, 2)).digest
    assert one != projects.source(text.format(4, 1)).digest


def test_editing_a_registered_implementation_of_a_generic_function_changes_it(projects):
    text = "import functools\n\n@functools.singledispatch\ndef show(x):\n    return 1\n\n@show.register\ndef _(x: int):\n    return {}\n\ndef train(x):\n    return show(x)\n"
    assert projects.source(text.format(2)).digest != projects.source(text.format(3)).digest


def test_an_instance_of_a_first_party_class_counts_by_class_and_state(projects):
    text = "class Scaler:\n    def __init__(self, by):\n        self.by = by\n    def run(self, x):\n        return x * self.by{}\n\nscaler = Scaler({})\n\ndef train(x):\n    return scaler.run(x)\n"
    one = projects.source(text.format("", 2)).digest
    assert one == projects.source(text.format("", 2)).digest
    assert one != projects.source(text.format("", 3)).digest
    assert one != projects.source(text.format(" + 1", 2)).digest


def test_a_bound_method_counts_by_its_instance(projects):
    text = "class Scaler:\n    def __init__(self, by):\n        self.by = by\n    def run(self, x):\n        return x * self.by\n\nscale = Scaler({}).run\n\ndef train(x):\n    return scale(x)\n"
    assert projects.source(text.format(2)).digest != projects.source(text.format(3)).digest


def test_functions_in_a_table_count(projects):
    text = "def one(x):\n    return {}\n\ndef two(x):\n    return 2\n\nTABLE = {{'one': one, 'two': two}}\n\ndef train(kind, x):\n    return TABLE[kind](x)\n"
    code = projects.source(text.format(1))
    assert {"flow.one", "flow.two"} <= names(code)
    assert code.digest != projects.source(text.format(3)).digest


def test_properties_static_and_class_methods_count(projects):
    text = "class Box:\n    @property\n    def a(self):\n        return {}\n    @staticmethod\n    def b():\n        return {}\n    @classmethod\n    def c(cls):\n        return {}\n\ndef train():\n    return Box().a + Box.b() + Box.c()\n"
    digests = {projects.source(text.format(*values)).digest for values in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2))}
    assert len(digests) == 4


def test_a_metaclass_and_a_class_decorator_count(projects):
    text = "class Meta(type):\n    def size(cls):\n        return {}\n\ndef mark(cls):\n    cls.marked = {}\n    return cls\n\n@mark\nclass Box(metaclass=Meta):\n    pass\n\ndef train():\n    return Box.size()\n"
    assert len({projects.source(text.format(*values)).digest for values in ((1, 1), (2, 1), (1, 2))}) == 3


def test_dataclasses_enums_and_named_tuples_count_by_their_fields(projects):
    text = "import dataclasses, enum, typing, collections\n\n@dataclasses.dataclass\nclass D:\n    x: int = {}\n\nclass E(enum.Enum):\n    A = {}\n\nclass N(typing.NamedTuple):\n    x: int = {}\n\nclass T(typing.TypedDict):\n    x{}: int\n\nP = collections.namedtuple('P', 'x y{}')\n\ndef train():\n    return D(), E.A, N(), T(x=1), P(1, 2)\n"
    values = [
        (1, 1, 1, "", ""),
        (2, 1, 1, "", ""),
        (1, 2, 1, "", ""),
        (1, 1, 2, "", ""),
        (1, 1, 1, "y", ""),
        (1, 1, 1, "", "y"),
    ]
    assert len({projects.source(text.format(*value)).digest for value in values}) == 6


def test_a_constant_without_encoding_counts_by_the_code_that_makes_it(projects):
    text = "import threading\n\ndef limit():\n    return {}\n\nGATE = threading.Semaphore(limit())\n\ndef train():\n    with GATE:\n        return 1\n"
    one = projects.source(text.format(2))
    assert one.digest == projects.source(text.format(2)).digest
    assert one.digest != projects.source(text.format(3)).digest
    assert any(leaf.name == "flow.GATE" and leaf.kind == "constant" for leaf in one.leaves)


def test_a_constant_counts_by_value_not_by_how_it_is_written(projects):
    text = "LIMIT = {}\n\ndef train(x):\n    return x[:LIMIT]\n"
    assert projects.source(text.format("4")).digest == projects.source(text.format("2 + 2")).digest


def test_a_path_below_the_project_counts_relative_to_it(projects):
    text = "from pathlib import Path\n\nHERE = Path(__file__).parent\nDATA = str(HERE / '{}')\n\ndef train():\n    return HERE, DATA\n"
    one = projects.source(text.format("data")).digest
    assert one == projects.source(text.format("data")).digest
    assert one != projects.source(text.format("other")).digest


def test_a_modules_own_logger_does_not_tie_it_to_its_name(projects):
    text = "import logging\n\nlog = logging.getLogger(__name__)\n\ndef train():\n    log.info('x')\n"
    one = projects.source(text).digest
    assert one == projects.digest({"pipes.toml": "", "other.py": text}, module="other")


def test_an_import_inside_a_function_is_followed(projects):
    flow = "def train(x):\n    from helpers import clean\n    import helpers as h\n    return h.other(clean(x))\n"
    helpers = "import deeper\n\ndef clean(x):\n    return deeper.cut(x){}\n\ndef other(x):\n    return x{}\n"
    deeper = "LIMIT = {}\n\nclass Cutter:\n    def run(self, x):\n        return x[:LIMIT]\n\ndef cut(x):\n    return Cutter().run(x)\n"

    def digest(*values):
        files = {"flow.py": flow, "helpers.py": helpers.format(*values[:2]), "deeper.py": deeper.format(values[2])}
        return projects.digest(files | {"pipes.toml": ""})

    assert len({digest("", "", 1), digest("+1", "", 1), digest("", "+1", 1), digest("", "", 2)}) == 4
    assert digest("", "", 1) == digest("", "", 1)


def test_an_import_inside_a_function_counts_the_same_whether_or_not_it_was_loaded_before(projects):
    from mlflow_pipes.fingerprint.code import fingerprint

    files = {
        "pipes.toml": "",
        "flow.py": "def train(x):\n    from helpers import clean\n    return clean(x)\n",
        "helpers.py": "import os\nLIMIT = len('ab')\n\ndef clean(x):\n    return x[:LIMIT]\n",
    }
    with projects.loaded(files) as flow:
        before = fingerprint(flow.train)
        flow.train("abc")
        assert fingerprint(flow.train) == before


def test_a_relative_import_inside_a_function_is_followed(projects):
    def digest(value):
        files = {
            "pipes.toml": "",
            "pkg/__init__.py": "",
            "pkg/flow.py": "def train(x):\n    from .inner import helpers\n    from . import sibling\n    return helpers.clean(x), sibling.f()\n",
            "pkg/inner/__init__.py": "",
            "pkg/inner/helpers.py": f"from ..sibling import f\n\ndef clean(x):\n    return f() + {value}\n",
            "pkg/sibling.py": "def f():\n    return 1\n",
        }
        code = projects.fingerprint(files, module="pkg.flow")
        assert {"pkg.inner.helpers.clean", "pkg.sibling.f"} <= names(code)
        return code.digest

    assert digest(1) != digest(2)


def test_an_optional_import_that_is_not_there_is_no_error(projects):
    text = "def train(x):\n    try:\n        import no_such_package as fast\n    except ImportError:\n        fast = None\n    return fast\n"
    assert projects.source(text).digest == projects.source(text).digest


def test_a_whole_module_taken_as_an_object_counts_whole(projects):
    def digest(value):
        files = {
            "pipes.toml": "",
            "flow.py": "import helpers\n\ndef train(x, name):\n    return vars(helpers)[name](x)\n",
            "helpers.py": f"def one(x):\n    return {value}\n",
        }
        return projects.digest(files)

    assert digest(1) != digest(2)


def test_a_submodule_reached_by_attributes_counts_alone(projects):
    files = {
        "pipes.toml": "",
        "flow.py": "import pkg.inner\n\ndef train(x):\n    return pkg.inner.clean(x)\n",
        "pkg/__init__.py": "",
        "pkg/inner.py": "def clean(x):\n    return x\n\ndef other():\n    return 1\n",
    }
    code = projects.fingerprint(files)
    assert "pkg.inner.clean" in names(code)
    assert "pkg.inner.other" not in names(code)


def test_same_text_with_another_meaning_of_a_name_differs(projects):
    text = "from {} import loads\n\ndef train(x):\n    return loads(x)\n"
    assert projects.source(text.format("json")).digest != projects.source(text.format("pickle")).digest


def test_shadowing_a_builtin_changes_it(projects):
    text = "{}def train(x):\n    return sum(x)\n"
    assert (
        projects.source(text.format("")).digest != projects.source(text.format("def sum(x):\n    return 0\n\n")).digest
    )


def test_lambdas_on_one_line_are_told_apart(projects):
    text = "TABLE = {{'a': lambda x: x + {}, 'b': lambda x: (lambda y: y + {})(x)}}\nA, B = TABLE['a'], TABLE['b']\n\ndef train(x):\n    return {}(x)\n"
    assert projects.source(text.format(1, 1, "A")).digest == projects.source(text.format(1, 2, "A")).digest
    assert projects.source(text.format(1, 1, "A")).digest != projects.source(text.format(2, 1, "A")).digest
    assert projects.source(text.format(1, 1, "B")).digest == projects.source(text.format(2, 1, "B")).digest
    assert projects.source(text.format(1, 1, "B")).digest != projects.source(text.format(1, 2, "B")).digest


def test_comprehensions_walrus_match_and_handlers_bind_their_own_names(projects):
    text = """
x = y = z = e = name = rest = other = key = object()

def train(rows):
    squares = [x for x in rows if (y := x)]
    with open(rows) as z:
        pass
    try:
        z.read()
    except OSError as e:
        print(e)
    match rows:
        case {"a": name, **rest}:
            return name, rest
        case [*other]:
            return other
    return {key: y for key in squares}
"""
    assert not any(leaf.kind == "constant" for leaf in projects.source(text).leaves)


def test_generators_coroutines_and_nested_functions_are_followed(projects):
    text = """
A, B, C, D = {}, {}, {}, {}

async def later():
    return A

def lines():
    yield B

def train(n):
    def inner(x, y=C):
        class Local:
            value = D
        return Local
    return later, lines, inner(n)
"""
    values = [(1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2)]
    assert len({projects.source(text.format(*value)).digest for value in values}) == 5


def test_names_from_a_star_import_are_followed_to_their_home(projects):
    def digest(flow, limit, size, value):
        helpers = f"import threading\nLIMIT = {limit}\nGATE = threading.Semaphore({size})\n\ndef clean(x):\n    return x + {value}\n"
        code = projects.fingerprint({"pipes.toml": "", "flow.py": flow, "helpers.py": helpers})
        assert {"helpers.LIMIT", "helpers.GATE", "helpers.clean"} <= names(code)
        return code.digest

    live = "from helpers import *\n\ndef train(x):\n    return clean(x), LIMIT, GATE\n"
    read = "def train(x):\n    from again import clean, LIMIT, GATE\n    return clean(x), LIMIT, GATE\n"
    values = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]
    assert len({digest(live, *value) for value in values}) == 4
    again = {"again.py": "from helpers import *\n"}
    files = {"pipes.toml": "", "flow.py": read, **again}
    text = "LIMIT = {}\nGATE = object()\n\ndef clean(x):\n    return x\n"
    assert projects.digest(files | {"helpers.py": text.format(1)}) != projects.digest(
        files | {"helpers.py": text.format(2)}
    )


def test_a_dotted_import_inside_a_function_is_followed(projects):
    def digest(value):
        files = {
            "pipes.toml": "",
            "flow.py": "def train(x):\n    import pkg.inner\n    return pkg.inner.clean(x)\n",
            "pkg/__init__.py": "",
            "pkg/inner.py": f"def clean(x):\n    return {value}\n",
        }
        return projects.digest(files)

    assert digest(1) != digest(2)


def test_an_attribute_of_a_function_counts_where_it_is_read(projects):
    text = "def helper():\n    return 1\n\nhelper.limit = {}\n\ndef train():\n    return helper.limit{}\n"
    assert projects.source(text.format(1, "")).digest != projects.source(text.format(2, "")).digest
