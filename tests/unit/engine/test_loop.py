"""The loop, with a real ledger in memory and a target that does as it is told."""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select

from mlflow_pipes import content
from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.engine import Engine, Inputs
from mlflow_pipes.errors import ArgumentError, BlobCorruptError, ConfigurationError, TargetError
from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.artifact import Leaf
from mlflow_pipes.model.attempt import (
    Assignment,
    AttemptFailed,
    AttemptId,
    AttemptSucceeded,
    Capacity,
    Failure,
    FailureKind,
    LogLine,
)
from mlflow_pipes.model.graph import Constant, Gather, Graph, Output, StepNode
from mlflow_pipes.model.resumption import EffectDone, Resumption
from mlflow_pipes.model.run import EntryForgotten, LookUp, OutputCached, RunEnded, RunStarted, Status, StepChanged
from mlflow_pipes.model.step import CodeFingerprint, PickledFunction, RetryPolicy, StepDefinition, StepOptions
from mlflow_pipes.scheduling.routing import Routing
from mlflow_pipes.stores.memory import MemoryDatastore
from mlflow_pipes.workspace.ledger.ledger import SqlLedger
from mlflow_pipes.workspace.ledger.tables import claims, step_runs

LARGE = "x" * 5000  # more than rides inline


class ObedientTarget:
    """Does attempts at once, by plain functions over loaded arguments; answers may be scripted by attempt."""

    def __init__(self, functions, datastore, script=()):
        self.name = "local"
        self.functions = functions
        self.datastore = datastore
        self.script = dict(script)
        self.assignments: list[Assignment] = []
        self.cancelled: list[AttemptId] = []

    def start(self, report):
        self.report = report

    def capacity(self):
        return Capacity(cpus=2, slots=2)

    def submit(self, assignment):
        self.assignments.append(assignment)
        attempt = assignment.attempt
        scripted = self.script.get((attempt.node, attempt.number))
        if isinstance(scripted, TargetError):
            raise scripted
        if scripted == "hang":
            return
        if isinstance(scripted, Failure):
            self.report(AttemptFailed(attempt, scripted, time.time(), time.time(), "w"))
            return
        arguments = {name: content.load(one, self.datastore) for name, one in assignment.arguments.items()}
        self.report(LogLine(attempt, "stdout", f"doing {attempt.node}", time.time()))
        output = content.store(self.functions[attempt.node.partition("[")[0]](*arguments.values()), self.datastore)
        self.report(AttemptSucceeded(attempt, output, time.time(), time.time(), "w", this_host()))

    def cancel(self, attempt):
        self.cancelled.append(attempt)
        self.report(AttemptFailed(attempt, Failure(FailureKind.CANCELLED, "cancelled"), time.time(), time.time()))

    def close(self):
        pass


class Recording:
    def __init__(self):
        self.records = []
        self.events = []

    def recorded(self, records):
        self.records += records

    def seen(self, event):
        self.events.append(event)


class SystemClock:
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def definition(name, **options):
    return StepDefinition(name, CodeFingerprint(f"{name:0<64}"), PickledFunction(name, b""), **options)


def node(name, arguments, *, options=None, **definition_options):
    step = definition(name.partition("[")[0], **definition_options)
    return StepNode(name, step, arguments, options or StepOptions())


def graph_of(*nodes, output=None, **options):
    return Graph("flow", {one.id: one for one in nodes}, output=output, **options)


class World:
    """A ledger, a datastore, and runs of graphs on an obedient target."""

    def __init__(self):
        self.ledger = SqlLedger.open(":memory:")
        self.datastore = MemoryDatastore()
        self.ids = (f"{number:032x}" for number in itertools.count(1))

    def engine(self, graph, functions, script=(), observers=(), clock=None, resumption=None):
        target = ObedientTarget(functions, self.datastore, script)
        inputs = Inputs(self.datastore)
        inputs.prepare(graph)
        started = RunStarted(
            next(self.ids), graph.name, graph.name, time.time(), host=this_host(), process=this_process()
        )
        seen = Recording()
        engine = Engine(
            graph,
            started=started,
            ledger=self.ledger,
            inputs=inputs,
            targets={"local": target},
            routing=Routing("local"),
            observers=[*observers, seen],
            clock=clock or SystemClock(),
            new_ids=self.ids,
            chance=lambda: 0.5,
            resumption=resumption,
        )
        target.start(engine.report)
        return engine, target, seen

    def run(self, graph, functions, script=(), observers=()):
        engine, target, seen = self.engine(graph, functions, script, observers)
        return engine.run(), target, seen


@pytest.fixture
def world():
    made = World()
    yield made
    made.ledger.close()


FLOW = graph_of(
    node("make", {"size": Constant(5000)}),
    node("measure", {"text": Output("make")}),
    output=Output("measure"),
)
FUNCTIONS = {"make": lambda size: "x" * size, "measure": len}


def final(seen):
    return {record.step_run_id: record.status for record in seen.records if isinstance(record, StepChanged)}


def done_nodes(target):
    return [(one.attempt.node, one.attempt.number) for one in target.assignments]


def test_outputs_flow_and_the_entry_stands_in_the_ledger_before_the_success(world):
    status, target, seen = world.run(FLOW, FUNCTIONS)
    assert status is Status.SUCCEEDED
    assert done_nodes(target) == [("make", 1), ("measure", 1)]
    kinds = [(type(record), getattr(record, "status", None)) for record in seen.records]
    assert kinds.index((OutputCached, None)) < kinds.index((StepChanged, Status.SUCCEEDED))
    ended = seen.records[-1]
    assert isinstance(ended, RunEnded)
    assert content.load(ended.output, world.datastore) == 5000


def test_a_second_run_reuses_everything(world):
    world.run(FLOW, FUNCTIONS)
    status, target, seen = world.run(FLOW, FUNCTIONS)
    assert (status, target.assignments) == (Status.SUCCEEDED, [])
    assert set(final(seen).values()) == {Status.REUSED}


def test_a_chain_of_reused_steps_is_looked_up_without_a_transaction_a_step(world):
    nodes = [node("make", {"size": Constant(1)})]
    for number in range(50):
        nodes.append(node(f"measure[{number}]", {"text": Output(nodes[-1].id)}))
    functions = {"make": lambda size: "x" * size, "measure": lambda text: text + "x"}
    world.run(graph_of(*nodes), functions)
    committed = []
    exchange = world.ledger.exchange
    world.ledger.exchange = lambda records, lookups, now: (
        committed.append(len(records)) or exchange(records, lookups, now)
    )
    status, target, seen = world.run(graph_of(*nodes), functions)
    assert (status, target.assignments) == (Status.SUCCEEDED, [])
    assert set(final(seen).values()) == {Status.REUSED}
    assert sum(count > 0 for count in committed) < 10


def test_a_literal_and_an_output_of_the_same_value_are_the_same_input(world):
    world.run(
        graph_of(node("one", {}), node("double", {"x": Output("one")})), {"one": lambda: 1, "double": lambda x: 2 * x}
    )
    _, target, _ = world.run(graph_of(node("double", {"x": Constant(1)})), {})
    assert target.assignments == []


def test_parts_and_collections_of_outputs_are_formed(world):
    graph = graph_of(
        node("pair", {}),
        node("add", {"values": Gather("list", (Output("pair", ("a",)), Constant(10), Output("pair", ("b", 0))))}),
        output=Output("add"),
    )
    status, _, seen = world.run(graph, {"pair": lambda: {"a": 1, "b": (2, 3)}, "add": sum})
    assert content.load(seen.records[-1].output, world.datastore) == 13
    assert status is Status.SUCCEEDED


def test_an_output_without_the_part_asked_for_fails_the_consumer_by_name(world):
    graph = graph_of(node("pair", {}), node("use", {"x": Output("pair", ("missing",))}))
    status, _, seen = world.run(graph, {"pair": lambda: {"a": 1}, "use": lambda x: x})
    assert status is Status.FAILED
    assert "'use'" in seen.records[-1].message
    assert "missing" in seen.records[-1].message


def test_an_effect_is_done_every_time_and_never_answered_from_the_cache(world):
    graph = graph_of(node("deploy", {"x": Constant(1)}, reuse="never"))
    for _ in range(2):
        _, target, _ = world.run(graph, {"deploy": lambda x: x})
        assert done_nodes(target) == [("deploy", 1)]


def test_a_lost_blob_is_made_again_when_the_cache_names_it(world):
    world.run(FLOW, FUNCTIONS)
    world.datastore.delete([digest for digest, _ in world.datastore.blobs()])
    changed = graph_of(FLOW.nodes["make"], node("other", {"text": Output("make")}))
    status, target, _ = world.run(changed, {**FUNCTIONS, "other": lambda text: text[:3]})
    assert status is Status.SUCCEEDED
    assert done_nodes(target) == [("make", 1), ("other", 1)]


def test_an_input_that_a_worker_finds_corrupt_is_made_again_and_the_step_tried_again(world):
    world.run(graph_of(FLOW.nodes["make"]), FUNCTIONS)
    (blob,) = [digest for digest, _ in world.datastore.blobs()]
    lost = Failure(FailureKind.INPUT, "corrupt", blobs=(str(blob),))
    status, target, _ = world.run(FLOW, FUNCTIONS, {("measure", 1): lost})
    assert status is Status.SUCCEEDED
    assert done_nodes(target) == [("measure", 1), ("make", 1), ("measure", 2)]


def test_a_constant_that_a_worker_finds_corrupt_is_stored_again(world):
    graph = graph_of(node("measure", {"text": Constant([LARGE])}))
    lost = Failure(FailureKind.INPUT, "corrupt", blobs=(str(content.store([LARGE], MemoryDatastore()).digest),))
    status, target, _ = world.run(graph, FUNCTIONS, {("measure", 1): lost})
    assert status is Status.SUCCEEDED
    assert done_nodes(target) == [("measure", 1), ("measure", 2)]


def test_a_target_that_cannot_take_an_attempt_fails_it_and_a_retry_may_mend_it(world):
    options = StepOptions(retries=RetryPolicy(count=1, delay_s=0.0))
    graph = graph_of(node("measure", {"text": Constant("abc")}, options=options))
    status, target, _ = world.run(graph, FUNCTIONS, {("measure", 1): TargetError("full")})
    assert status is Status.SUCCEEDED
    assert done_nodes(target) == [("measure", 1), ("measure", 2)]


def test_cancelling_stops_what_runs_and_gives_its_key_back(world):
    engine, target, _ = world.engine(FLOW, FUNCTIONS, {("make", 1): "hang"})
    engine.cancel("enough")
    assert engine.run() is Status.CANCELLED
    assert [attempt.node for attempt in target.cancelled] == ["make"]
    status, _, _ = world.run(FLOW, FUNCTIONS)
    assert status is Status.SUCCEEDED


def test_a_request_in_the_ledger_cancels_the_run(world):
    class Canceller:
        def recorded(self, records):
            for record in records:
                if isinstance(record, RunStarted):
                    world.ledger.request_cancel(record.run_id, time.time())

        def seen(self, event):
            pass

    engine, _, seen = world.engine(FLOW, FUNCTIONS, {("make", 1): "hang"}, observers=[Canceller()])
    assert engine.run() is Status.CANCELLED
    assert "another process" in seen.records[-1].message


def test_an_observer_that_fails_is_dropped_and_the_run_goes_on(world, caplog):
    class Broken:
        def recorded(self, records):
            raise ZeroDivisionError

        def seen(self, event):
            raise ZeroDivisionError

    status, _, seen = world.run(FLOW, FUNCTIONS, observers=[Broken()])
    assert status is Status.SUCCEEDED
    assert caplog.text.count("the observer Broken failed") == 1
    assert [event.text for event in seen.events] == ["doing make", "doing measure"]


def test_a_constant_that_cannot_be_stored_names_step_and_argument(world):
    graph = graph_of(node("measure", {"text": Constant(x for x in "abc")}))
    with pytest.raises(ArgumentError, match=r"^step 'measure', argument 'text': (?!text)"):
        world.run(graph, FUNCTIONS)


def test_a_step_on_an_unknown_target_is_refused_with_the_near_name(world):
    graph = graph_of(node("measure", {"text": Constant("abc")}, options=StepOptions(target="locla")))
    with pytest.raises(ConfigurationError, match="did you mean 'local'"):
        world.run(graph, FUNCTIONS)


def test_fail_fast_ends_a_run_whose_other_steps_are_cancelled(world):
    graph = graph_of(node("make", {"size": Constant(1)}), node("measure", {"text": Constant("abc")}))
    failed = Failure(FailureKind.EXCEPTION, "boom", ("ValueError",))
    status, target, seen = world.run(graph, FUNCTIONS, {("make", 1): "hang", ("measure", 1): failed})
    assert status is Status.FAILED
    assert [attempt.node for attempt in target.cancelled] == ["make"]
    assert sorted(final(seen).values()) == [Status.CANCELLED, Status.FAILED]


def test_of_steps_with_one_key_one_computes_and_the_others_wait_for_it(world):
    graph = graph_of(
        node("make", {"size": Constant(7)}),
        node("make[2]", {"size": Constant(7)}),
        node("seven", {}),
        node("make[3]", {"size": Output("seven")}),
    )
    status, target, seen = world.run(graph, {**FUNCTIONS, "seven": lambda: 7})
    assert status is Status.SUCCEEDED
    assert [node.partition("[")[0] for node, _ in done_nodes(target)].count("make") == 1
    assert sorted(final(seen).values()) == [Status.REUSED, Status.REUSED, Status.SUCCEEDED, Status.SUCCEEDED]


def test_when_the_one_that_computes_a_key_fails_the_next_tries(world):
    options = StepOptions(retries=RetryPolicy(count=0))
    graph = graph_of(
        node("make", {"size": Constant(7)}, options=options), node("make[2]", {"size": Constant(7)}), fail_fast=False
    )
    failed = Failure(FailureKind.EXCEPTION, "boom", ("ValueError",))
    status, target, seen = world.run(graph, FUNCTIONS, {("make", 1): failed})
    assert status is Status.FAILED
    assert done_nodes(target) == [("make", 1), ("make[2]", 1)]
    assert sorted(final(seen).values()) == [Status.FAILED, Status.SUCCEEDED]


class ClockPutBack(SystemClock):
    """Goes an hour back, once."""

    def __init__(self):
        self.late = time.time() + 0.05

    def now(self):
        now = time.time()
        return now if now < self.late else now - 3600.0


def test_a_clock_that_is_put_back_delays_nothing(world):
    options = StepOptions(retries=RetryPolicy(count=1, delay_s=0.3, jitter=0.0))
    graph = graph_of(node("measure", {"text": Constant("abc")}, options=options))
    failed = Failure(FailureKind.EXCEPTION, "boom", ("ValueError",))
    engine, target, _ = world.engine(graph, FUNCTIONS, {("measure", 1): failed}, clock=ClockPutBack())
    began = time.monotonic()
    assert engine.run() is Status.SUCCEEDED
    assert done_nodes(target) == [("measure", 1), ("measure", 2)]
    assert time.monotonic() - began < 30.0


def test_a_cancel_after_the_end_is_ignored(world):
    engine, _, _ = world.engine(FLOW, FUNCTIONS)
    assert engine.run() is Status.SUCCEEDED
    engine.cancel("a second Ctrl-C, while the workers leave")


def old_manifest(padding=0):
    """Return a folder's artifact as a version might have written it whose manifests this one cannot read."""
    blob = json.dumps({"pipes.tree/0": ["?" * padding]}).encode()
    return blob, Leaf("tree", digest_bytes(blob), "folder", blob if len(blob) <= content.INLINE_LIMIT_BYTES else None)


@pytest.mark.parametrize("padding", [0, 5000], ids=["inline", "in the datastore"])
def test_a_stored_folder_that_this_version_cannot_read_is_made_again(world, tmp_path, padding):
    (tmp_path / "file").write_text("text")
    graph = graph_of(node("folder", {}), node("count", {"folder": Output("folder")}))
    functions = {"folder": lambda: tmp_path, "count": lambda folder: len(list(folder.iterdir()))}
    _, target, seen = world.run(graph_of(graph.nodes["folder"]), functions)
    (entry,) = (record for record in seen.records if isinstance(record, OutputCached))
    blob, leaf = old_manifest(padding)
    world.datastore.put([blob])
    world.ledger.exchange([EntryForgotten(entry.key), replace(entry, output=leaf)], [], time.time())
    status, target, _ = world.run(graph, functions)
    assert status is Status.SUCCEEDED
    assert done_nodes(target) == [("folder", 1), ("count", 1)]


@pytest.mark.parametrize("padding", [0, 5000], ids=["inline", "in the datastore"])
def test_an_input_that_a_worker_cannot_read_names_its_blob_and_is_made_again(world, tmp_path, padding):
    blob, leaf = old_manifest(padding)
    world.datastore.put([blob])
    with pytest.raises(BlobCorruptError) as caught:
        content.load(leaf, world.datastore)
    assert caught.value.blob == str(leaf.digest)
    (tmp_path / "file").write_text("text" if not padding else "x" * padding)
    graph = graph_of(node("folder", {}), node("count", {"folder": Output("folder")}))
    functions = {"folder": lambda: tmp_path, "count": lambda folder: len(list(folder.iterdir()))}
    made = content.store(tmp_path, world.datastore)
    lost = Failure(FailureKind.INPUT, "a folder's manifest cannot be read", blobs=(str(made.digest),))
    status, target, _ = world.run(graph, functions, {("count", 1): lost})
    assert status is Status.SUCCEEDED
    assert done_nodes(target) == [("folder", 1), ("count", 1), ("folder", 2), ("count", 2)]


def test_an_output_of_a_codec_that_is_not_installed_is_made_again(world):
    _, _, seen = world.run(graph_of(FLOW.nodes["make"]), FUNCTIONS)
    (entry,) = (record for record in seen.records if isinstance(record, OutputCached))
    foreign = Leaf("zarr", digest_bytes(b"?"), "", b"?")
    world.ledger.exchange([EntryForgotten(entry.key), replace(entry, output=foreign)], [], time.time())
    status, target, _ = world.run(FLOW, FUNCTIONS)
    assert (status, done_nodes(target)) == (Status.SUCCEEDED, [("make", 1), ("measure", 1)])


def test_a_step_whose_key_another_run_took_over_and_computed_is_not_computed_again(world):
    names = ("make[1]", "make[2]", "make[3]")
    graph = graph_of(*(node(name, {"size": Constant(position)}) for position, name in enumerate(names)))
    engine, target, seen = world.engine(graph, FUNCTIONS, {("make[1]", 1): "hang", ("make[2]", 1): "hang"})
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(engine.run)
        while len(target.assignments) < 2:
            time.sleep(0.01)
        # This run stood still for so long that another took its keys, and has computed the one that waits for room.
        late = time.time() + 60.0
        keys = [key for (key,) in world.ledger.database.rows(select(claims.c.key))]
        world.ledger.exchange([], [LookUp(key, "f" * 32) for key in keys], late)
        for key in keys:
            output = content.store("from the other", world.datastore)
            world.ledger.exchange([OutputCached(key, output, "e" * 32, "flow", "make", late, 1.0, token=0)], [], late)
        time.sleep(1.2)  # a heartbeat
        for assignment in list(target.assignments):
            target.report(AttemptSucceeded(assignment.attempt, content.store("x", world.datastore), late, late))
        assert running.result(10) is Status.SUCCEEDED
    assert {name for name, _ in done_nodes(target)} == {"make[1]", "make[2]"}
    assert sorted(final(seen).values()) == [Status.REUSED, Status.SUCCEEDED, Status.SUCCEEDED]


# Effects


PAYING = graph_of(
    node("make", {"size": Constant(1)}),
    node("pay", {"text": Output("make")}, reuse="never"),
    output=Output("pay"),
)


def resumption(**parts):
    return Resumption("0" * 32, "f" * 32, **parts)


def test_an_effect_is_recorded_before_it_is_sent_to_its_target(world):
    engine, target, _ = world.engine(PAYING, {"make": lambda size: "x" * size, "pay": len})
    seen = []
    submit = target.submit

    def look_and_submit(assignment):
        steps = world.ledger.database.rows(select(step_runs.c.node, step_runs.c.status, step_runs.c.attempts))
        seen.append({row.node: (row.status, row.attempts) for row in steps})
        submit(assignment)

    target.submit = look_and_submit
    assert engine.run() is Status.SUCCEEDED
    assert seen[1]["pay"] == ("running", 1)


def test_an_effect_that_is_stopped_before_it_was_sent_is_never_sent(world):
    graph = graph_of(*PAYING.nodes.values(), node("fail", {"size": Constant(2)}))
    script = {("fail", 1): Failure(FailureKind.EXCEPTION, "no")}
    status, target, seen = world.run(graph, {"make": lambda size: "x" * size, "pay": len}, script)
    assert status is Status.FAILED
    assert ("pay", 1) not in done_nodes(target)
    assert ("pay", 1) not in [(one.node, one.number) for one in target.cancelled]
    ended = {one.status for one in seen.records if isinstance(one, StepChanged) and one.status.ended}
    assert Status.CANCELLED in ended


def test_an_effect_that_happened_in_a_run_resumed_is_taken_and_one_that_may_have_is_warned_of(world):
    functions = {"make": lambda size: "x" * size, "pay": len}
    _, first, _ = world.run(PAYING, functions)
    key = next(row.key for row in world.ledger.database.rows(select(step_runs)) if row.node == "pay")
    stored = content.store(7, world.datastore)
    done = resumption(done={("pay", key): EffectDone("a" * 32, "b" * 32, stored)})
    engine, target, seen = world.engine(PAYING, functions, resumption=done)
    assert engine.run() is Status.SUCCEEDED
    assert done_nodes(target) == []
    assert content.load(seen.records[-1].output, world.datastore) == 7
    for effects, warned in (({("pay", key): "c" * 32}, True), ({("pay#2", key): "c" * 32}, False)):
        engine, target, seen = world.engine(PAYING, functions, resumption=resumption(unknown=effects))
        assert engine.run() is Status.SUCCEEDED
        assert done_nodes(target) == [("pay", 1)]
        told = [event.text for event in seen.events if isinstance(event, LogLine) and event.stream == "pipes"]
        assert any("may have happened in run cccccccc" in text for text in told) is warned
        assert target.assignments[0].idempotency_key != first.assignments[-1].idempotency_key


def test_requests_to_stop_a_step_are_heeded_once_and_the_others_go_on(world):
    graph = graph_of(
        node("make", {"size": Constant(5)}),
        node("slow", {"size": Constant(9)}),
        node("after", {"text": Output("slow")}),
        fail_fast=False,
    )
    engine, target, seen = world.engine(graph, {"make": lambda size: "x" * size}, {("slow", 1): "hang"})
    run_id = engine._started.run_id

    class Canceller:
        def recorded(self, records):
            if any(isinstance(record, StepChanged) and record.status is Status.RUNNING for record in records):
                world.ledger.request_cancel(run_id, time.time(), node="slow", reason="too slow")

        def seen(self, event):
            pass

    engine._recorder.observers._observers.append(Canceller())
    assert engine.run() is Status.CANCELLED
    assert [(one.node, one.number) for one in target.cancelled] == [("slow", 1)]
    reasons = {one.reason: one.status for one in seen.records if isinstance(one, StepChanged) and one.status.ended}
    assert reasons["too slow"] is Status.CANCELLED
    assert Status.SUCCEEDED in reasons.values()
