import json

from mlflow_pipes.digests import digest_bytes
from mlflow_pipes.display.look import Look, cells, plain_text
from mlflow_pipes.display.summary import metric_lines, service_urls, summary_lines
from mlflow_pipes.model.artifact import Collection, Leaf
from mlflow_pipes.model.run import Status

LOOK = Look(width=100)


def leaf(value):
    content = json.dumps(value).encode()
    return Leaf("json", digest_bytes(content), inline=content)


def summary(progress, tell, look=LOOK):
    return plain_text(summary_lines(progress, look, tell.now))


def test_a_good_run_tells_what_ran_and_where_to_look(told):
    progress, tell = told
    tell.start("delays").declare("a", "b").reuse("a").succeed("b").wait(3).end()
    assert summary(progress, tell).splitlines() == [
        "✓ delays succeeded in 3.0 s: 1 ran, 1 reused",
        "  look closer: pipes show 3f2a91c0   in MLflow: pipes ui",
    ]


def test_metrics_are_a_table_of_steps_and_numbers(told):
    progress, tell = told
    tell.start().declare("a", "b").track("b", rmse=3.25).track("a", rmse=12.5, mae=1.0).succeed("a", "b").end()
    assert summary(progress, tell).splitlines()[:4] == [
        "metrics  rmse  mae",
        "a        12.5    1",
        "b        3.25",
        "",
    ]


def test_metrics_that_do_not_fit_are_counted():
    numbers = {f"metric_number_{i}": float(i) for i in range(30)}
    lines = metric_lines({f"step{i}": numbers for i in range(40)}, Look(width=60))
    assert all(cells(Look().text(line)) <= 60 for line in lines)
    assert "20 more steps" in plain_text(lines)
    assert "more metrics" in plain_text(lines)


def test_a_failed_run_shows_the_failure_and_the_command_for_its_log(told):
    progress, tell = told
    traceback = 'Traceback:\n  File "/home/me/a.py", line 3, in train\n    boom()\nValueError: bad'
    tell.start().declare("train[d=4]").begin("train[d=4]").fail("train[d=4]", "ValueError: bad", traceback, number=2)
    tell.end(Status.FAILED, "step failed")
    assert summary(progress, tell).splitlines()[:5] == [
        "✗ train[d=4] failed (attempt 2)",
        "    /home/me/a.py:3 in train",
        "        boom()",
        "    ValueError: bad",
        "    whole traceback and log: pipes logs 3f2a91c0 'train[d=4]'",
    ]


def test_of_many_failures_a_few_are_shown_in_full(told):
    progress, tell = told
    nodes = [f"s[{i}]" for i in range(60)]
    tell.start().declare(*nodes)
    for node in nodes:
        tell.fail(node)
    tell.end(Status.FAILED)
    text = summary(progress, tell)
    assert text.count("whole traceback") == 3
    assert "also failed: s[3], s[4]" in text
    assert "and 40 more" in text


def test_a_run_that_failed_without_a_failed_step_says_its_message(told):
    progress, tell = told
    tell.start().declare("a").change("a", Status.CANCELLED).end(Status.CANCELLED, "cancelled by Ctrl-C")
    assert "  cancelled by Ctrl-C" in summary(progress, tell).splitlines()


def test_the_address_of_a_deployed_service_is_shown_once(told):
    progress, tell = told
    service = Collection("record", (leaf("delays"), leaf("http://127.0.0.1:8123")), ("name", "url"), "m:Service")
    tell.start().declare("deploy", "again").succeed("deploy", "again", output=service).end()
    assert summary(progress, tell).count("service: http://127.0.0.1:8123") == 1


def test_other_addresses_in_outputs_are_not_services():
    urls = service_urls([leaf("https://example.com/data.csv"), leaf({"url": "http://localhost:5000/x"}), leaf("text")])
    assert urls == ["http://localhost:5000/x"]
