import collections
import dataclasses
import sys
import threading
import types
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pytest

from mlflow_pipes.content import blobs_of, describe, load, select, store
from mlflow_pipes.errors import NotFoundError, UnstorableOutputError
from mlflow_pipes.model.artifact import Collection, Leaf, from_json, to_json
from mlflow_pipes.stores.memory import MemoryDatastore

STORE = MemoryDatastore()
ARRAY = np.arange(1000)


class Split(NamedTuple):
    train: Any
    test: int = 2


class Split2(NamedTuple):
    test: int
    train: Any


class SplitDict(TypedDict):
    train: Any
    test: int


@dataclasses.dataclass
class Result:
    name: str
    values: list[int]
    total: int = dataclasses.field(init=False)

    def __post_init__(self):
        self.name = self.name.strip() + "!"
        self.total = sum(self.values)
        self.cache = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    y: "Frozen | None" = None


@dataclasses.dataclass
class WithInitVar:
    kept: int
    factor: dataclasses.InitVar[int] = 1

    def __post_init__(self, factor):
        self.kept *= factor


@dataclasses.dataclass
class HalfMade:
    x: int = dataclasses.field(init=False)


def round_trip(value, wanted=Any):
    return load(from_json(to_json(store(value, STORE))), STORE, wanted)


@pytest.mark.parametrize(
    ("value", "kind"),
    [([ARRAY, 1], "list"), ((ARRAY, 1), "tuple"), ({"a": ARRAY, 2: "x"}, "dict"), (Split(ARRAY), "record")],
)
def test_what_holds_more_than_plain_data_is_stored_item_by_item(value, kind):
    artifact = store(value, STORE)
    assert isinstance(artifact, Collection)
    assert artifact.kind == kind
    assert len(artifact.items) == 2
    back = round_trip(value)
    assert type(back) is type(value)
    assert list(back) == list(value) if kind == "dict" else len(back) == 2


def test_a_list_that_grew_keeps_the_identities_of_its_items():
    short, long = store([ARRAY, ARRAY + 1], STORE), store([ARRAY, ARRAY + 1, ARRAY + 2], STORE)
    assert [item.identity for item in long.items[:2]] == [item.identity for item in short.items]


def test_records_are_stored_by_field_also_when_all_is_plain():
    artifact = store(Split(1, 2), STORE)
    assert artifact.keys == ("train", "test")
    assert artifact.type_name == f"{__name__}:Split"
    assert round_trip(Split(1, 2)) == Split(1, 2)
    assert type(round_trip([Split(1, 2)])[0]) is Split
    assert describe(artifact) == "Split(train, test)"


def test_a_dataclass_is_made_by_its_constructor_and_has_the_fields_it_had():
    result = Result("a", [1, 2])
    assert result.name == "a!"
    back = round_trip(result)
    assert back == result  # "a!", not "a!!"
    assert back.cache == {}


def test_frozen_and_nested_dataclasses_come_back():
    assert round_trip(Frozen(1, Frozen(2))) == Frozen(1, Frozen(2))


def test_a_dataclass_that_its_fields_cannot_rebuild_is_pickled():
    value = WithInitVar(2, factor=3)
    assert store(value, STORE).codec == "pickle"
    assert round_trip(value) == value


def test_a_record_with_an_unset_field_is_refused():
    with pytest.raises(UnstorableOutputError, match=r"output: the HalfMade has no value for its field x"):
        store(HalfMade(), STORE)


def test_the_consumer_may_ask_for_another_record_class_a_typed_dict_or_a_dict():
    value = Split(ARRAY, 3)
    assert round_trip(value, Split2).test == 3
    assert type(round_trip(value, Split2)) is Split2
    assert type(round_trip(value, Split | None)) is Split
    for wanted in (SplitDict, dict, dict[str, Any]):
        back = round_trip(value, wanted)
        assert type(back) is dict
        assert list(back) == ["train", "test"]


def test_a_class_defined_in_a_function_works_in_its_own_process():
    class Local(NamedTuple):
        x: int

    assert round_trip(Local(1)) == Local(1)
    artifact = dataclasses.replace(store(Local(1), STORE), type_name="m:gone.<locals>.Local")
    with pytest.raises(NotFoundError, match="top level of the module"):
        load(artifact, STORE)
    assert load(artifact, STORE, Local) == Local(1)


@pytest.mark.parametrize(
    ("name", "words"),
    [("no_such_module_x:Split", "cannot be imported"), (f"{__name__}:Gone", "no longer has it"), (f"{__name__}:ARRAY", "no longer a named tuple"),
     (f"{__name__}:Frozen", r"fields have changed since it was stored \(test, train, x, y\)")],
)  # fmt: skip
def test_a_record_whose_class_is_gone_is_an_error_with_a_remedy(name, words):
    artifact = dataclasses.replace(store(Split(1), STORE), type_name=name)
    with pytest.raises(NotFoundError, match=words):
        load(artifact, STORE)


def test_a_class_of_main_is_named_as_a_worker_imports_it(tmp_path, monkeypatch):
    (tmp_path / "my_script.py").write_text(
        "from typing import NamedTuple\nclass Point(NamedTuple):\n    x: int\nclass Plain:\n    def __init__(self, x): self.x = x\n"
    )
    main = types.ModuleType("__main__")
    main.__file__ = str(tmp_path / "my_script.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec((tmp_path / "my_script.py").read_text(), main.__dict__)
    artifact, pickled = store(main.Point(1), STORE), store(main.Plain(5), STORE)
    assert artifact.type_name == "my_script:Point"
    assert load(artifact, STORE) == main.Point(1)
    assert type(load(pickled, STORE)) is main.Plain
    # as a worker sees it: another __main__, the script is a module
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(load(artifact, STORE)).__module__ == "my_script"
    inside = load(pickled, STORE)
    assert type(inside).__module__ == "my_script"
    assert inside.x == 5
    # and back: what the worker pickled is of __main__'s class again
    returned = store(inside, STORE)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert type(load(returned, STORE)) is main.Plain
    monkeypatch.delitem(sys.modules, "my_script")


def test_parts_are_selected_by_field_key_and_position():
    artifact = store(Split({"a": [ARRAY, 7], 3: (1, {"k": "v"})}, 5), STORE)
    for path, value in [(("test",), 5), (("train", "a", 1), 7), (("train", 3, 1, "k"), "v"), (("train", 3), (1, {"k": "v"})), ((1,), 5),
                        (("train", "a", -1), 7)]:  # fmt: skip
        assert select(artifact, path, STORE).identity == store(value, STORE).identity
    assert select(artifact, (), STORE) is artifact


def test_a_part_of_plain_data_has_the_identity_of_the_literal():
    artifact = store({"a": [10, "x", 1.5], "b": list(range(5000))}, STORE)
    assert isinstance(artifact, Leaf)
    assert select(artifact, ("a", 0), STORE) == store(10, STORE)
    assert select(artifact, ("a", 1), STORE) == store("x", STORE)
    assert select(artifact, ("b", 4999), STORE) == store(4999, STORE)
    assert select(store({(1, 2): ARRAY, "k": 1}, STORE), ("k",), STORE) == store(1, STORE)


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [(Split(1), ("tran",), r"no field 'tran'; did you mean 'train'\?"), ({"alpha": ARRAY}, ("alpa",), r"no key 'alpa'; did you mean 'alpha'"),
     ({"alpha": 1}, ("alpa",), r"did you mean 'alpha'"), ([ARRAY], (1,), "list of 1 and has no item 1"), ([1, 2], (2,), r"list of 2 and has no part 2"),
     (Split([1]), ("train", 4), r"is a list of 1 and has no part 4"), (ARRAY, (0,), "stored as one array"), (5, ("x",), "is a int and has no part 'x'"),
     ({1: ARRAY}, (True,), "no key True")],
)  # fmt: skip
def test_a_part_that_is_not_there_is_an_error_with_near_names(value, path, words):
    with pytest.raises(NotFoundError, match=words):
        select(store(value, STORE), path, STORE)


def test_the_blobs_of_an_artifact_are_those_not_inline():
    artifact = store([1, ARRAY, "x" * 5000, {"k": ARRAY}], STORE)
    assert blobs_of(artifact, STORE) == {artifact.items[1].digest, artifact.items[2].digest}
    assert blobs_of(store(1, STORE), STORE) == set()


def test_errors_name_the_path_into_the_output():
    for value, path in [
        ({"a": [1, (x for x in ())]}, r"output\['a'\]\[1\]"),
        (Split({2: lambda: 0, "f": threading.Lock()}), r"output.train\['f'\]"),
    ]:
        with pytest.raises(UnstorableOutputError, match=path):
            store(value, STORE)
    with pytest.raises(UnstorableOutputError, match=r"argument 'folder'\[0\]: there is no file or folder /nope"):
        store([Path("/nope")], STORE, name="argument 'folder'")


def test_a_value_that_contains_itself_is_refused():
    circle = [1]
    circle.append(circle)
    knot = [ARRAY]
    knot.append(knot)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, knot, deep):
        with pytest.raises(UnstorableOutputError, match="nested too deeply, or contains itself"):
            store(value, STORE)


@pytest.mark.parametrize(
    "value",
    [
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        collections.defaultdict(list, a=[1]),
        {(1, 2): {3}, None: {Path("/x") / "y": 1}},
    ],
)
def test_other_containers_are_pickled_and_come_back_as_they_were(value):
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


def test_items_are_given_as_the_annotation_says(tmp_path):
    (tmp_path / "f").write_text("hello")
    path = tmp_path / "f"
    assert [type(item) for item in round_trip([path, path], list[str])] == [str, str]
    assert [type(item) is str for item in round_trip((path, path), tuple[str, Path])] == [True, False]
    assert type(round_trip({"a": path}, dict[str, str])["a"]) is str
    assert type(round_trip({"a": path}, dict[str, str] | None)["a"]) is str
