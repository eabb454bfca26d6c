"""Services as they are: real processes, real sockets, real models."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_pipes.errors import ArgumentError, ServiceError
from mlflow_pipes.lifecycle import ServiceRegistry
from mlflow_pipes.lifecycle.services import client
from mlflow_pipes.machine import daemons

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROWS = [{"distance": 7.0, "hour": 1, "carrier": "UA"}, {"distance": 8.0, "hour": 2, "carrier": "AA"}]


@pytest.fixture
def registry(tmp_path):
    services = ServiceRegistry(tmp_path / "services", orphan_after_s=20)
    yield services
    for service in services.list():
        services.remove(service.name)


@pytest.fixture(scope="module")
def served(tmp_path_factory, model_folder):
    services = ServiceRegistry(tmp_path_factory.mktemp("shared") / "services")
    yield services.deploy("delays", model_folder, version="1", max_body_bytes=100_000)
    services.remove("delays")


def ask(service, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content), response.headers


def score(service, content, content_type="application/json"):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    status, answer, _ = ask(service, "POST", "/invocations", body, Content_Type=content_type)
    return status, answer


def test_health_ping_and_version_tell_what_is_served(served):
    for path in ("/health", "/ping", "/version"):
        status, answer, _ = ask(served, "GET", path)
        assert (status, answer["version"], answer["model_digest"]) == (200, "1", served.model_digest)


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_records": ROWS},
        {"dataframe_split": {"columns": list(ROWS[0]), "data": [list(row.values()) for row in ROWS]}},
        {"instances": ROWS},
        {"inputs": {name: [row[name] for row in ROWS] for name in ROWS[0]}},
    ],
)
def test_every_format_of_mlflows_protocol_is_answered_with_the_models_own_predictions(served, content, model_folder):
    import mlflow.pyfunc
    import pandas as pd

    own = mlflow.pyfunc.load_model(str(model_folder)).predict(pd.DataFrame(ROWS)).tolist()
    assert score(served, content) == (200, {"predictions": own})


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        ({"rows": []}, 400, "unknown key 'rows'"),
        (
            {"dataframe_records": [{"distanse": 1.0, "hour": 1, "carrier": "UA"}]},
            422,
            "is it what you call 'distanse'?",
        ),
        ({"dataframe_records": [{**ROWS[0], "cariers": "UA"}]}, 422, "did you mean 'carrier'?"),
        ({"dataframe_records": [{**ROWS[0], "distance": "far"}]}, 422, "column 'distance' takes numbers"),
        ({"dataframe_records": ROWS, "params": {"speed": 1}}, 422, "parameter 'speed' is not known"),
        (b" " * 200_000, 413, "larger than the 100000 bytes"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason_and_the_service_lives_on(served, content, status, says):
    got, answer = score(served, content)
    assert (got, says in answer["message"]) == (status, True), answer
    assert score(served, {"instances": ROWS})[0] == 200


def test_a_body_without_a_length_is_cut_off_as_well(served):
    pieces = (b" " * 10_000 for _ in range(30))
    status, answer, _ = ask(served, "POST", "/invocations", pieces, Content_Type="application/json")
    assert (status, answer["error_code"]) == (413, "REQUEST_ENTITY_TOO_LARGE")


def test_wrong_content_types_paths_and_methods_are_json_errors(served):
    assert score(served, b"a,b\n1,2", "text/csv")[0] == 415
    assert score(served, b"{}", "application/json; charset=latin-1")[0] == 415
    status, answer, _ = ask(served, "GET", "/nothing")
    assert (status, "/invocations" in answer["message"]) == (404, True)
    status, answer, headers = ask(served, "GET", "/invocations")
    assert (status, headers["Allow"]) == (405, "POST")
    assert "does not take GET" in answer["message"]


def test_a_web_page_that_points_its_own_name_at_this_machine_gets_no_answer(served):
    connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
    connection.request("GET", "/health", headers={"Host": "evil.example.org"})
    assert connection.getresponse().status == 400
    connection.close()


def test_a_model_that_fails_is_told_by_an_id_that_stands_in_the_log_and_without_a_traceback(
    tmp_path, model_folder, served
):
    # The signature takes any carrier, the model's encoder knows two.
    status, answer = score(served, {"dataframe_records": [{**ROWS[0], "carrier": "ZZ"}]})
    assert status == 500
    assert "Traceback" not in answer["message"]
    assert "unknown categories" not in answer["message"]
    reference = answer["message"].split()[-1]
    log = Path(f"/proc/{served.pid}/cwd/log.txt").read_text()
    assert reference in log
    assert "unknown categories" in log


def test_deploying_what_is_deployed_only_checks_its_health(registry, model_folder):
    first = registry.deploy("delays", model_folder, version="1")
    assert first.is_new
    again = registry.deploy("delays", lambda: pytest.fail("not needed"), version="1", model_digest=first.model_digest)
    assert again == replace(first, is_new=False)
    assert registry.call("delays", ROWS) == pytest.approx([17.0, 8.0])
    with pytest.raises(ArgumentError, match="'hour' is missing"):
        registry.call("delays", {"distance": 1.0, "carrier": "UA"})
    assert any("listening on 127.0.0.1" in line for line in registry.logs("delays"))


def test_a_killed_service_is_dead_and_comes_back_on_its_port(registry, model_folder):
    first = registry.deploy("delays", model_folder)
    os.kill(first.pid, signal.SIGKILL)
    while daemons.alive(first.pid, first.process):
        time.sleep(0.01)
    assert [service.status for service in registry.list()] == ["dead"]
    second = registry.deploy("delays", model_folder)
    assert (second.is_new, second.port) == (True, first.port)
    assert registry.get("delays").status == "running"


def test_a_service_that_hangs_is_unhealthy_and_replaced(tmp_path, registry, model_folder):
    registry = ServiceRegistry(registry.folder, stop_timeout_s=1)
    first = registry.deploy("delays", model_folder)
    os.kill(first.pid, signal.SIGSTOP)
    assert not client.healthy(first, timeout_s=0.3)
    second = registry.deploy("delays", model_folder)
    assert second.pid != first.pid
    assert not daemons.alive(first.pid, first.process)


def test_a_replaced_model_keeps_the_address_and_nobody_is_refused(registry, model_folder, better_model_folder):
    first = registry.deploy("delays", model_folder, version="1")
    answers, stop = [], threading.Event()

    def ask_on():
        while not stop.is_set():
            answers.append(round(client.predict(first, ROWS[:1])[0]))

    asker = threading.Thread(target=ask_on)
    asker.start()
    try:
        second = registry.deploy("delays", better_model_folder, version="2")
        time.sleep(0.1)
    finally:
        stop.set()
        asker.join()
    assert (second.url, second.version) == (first.url, "2")
    assert not daemons.alive(first.pid, first.process)
    assert set(answers) == {17, 27}
    assert answers[-1] == 27
    assert len(list((registry.folder / "delays/releases").iterdir())) == 1


def test_a_model_that_cannot_be_served_leaves_the_old_one_serving_and_tells_why(
    registry, model_folder, broken_model_folder
):
    first = registry.deploy("delays", model_folder)
    with pytest.raises(ServiceError, match="ended before it was healthy") as caught:
        registry.deploy("delays", broken_model_folder)
    assert "Unpickling" in str(caught.value)
    assert registry.get("delays") == replace(first, is_new=False)
    assert registry.call("delays", ROWS[:1]) == pytest.approx([17.0])
    assert len(list((registry.folder / "delays/releases").iterdir())) == 1


def test_a_start_that_takes_too_long_is_given_up_and_leaves_no_process(registry, model_folder):
    with pytest.raises(ServiceError, match=r"not healthy within 0.3 s"):
        registry.deploy("delays", model_folder, start_timeout_s=0.3)
    assert registry.list() == []
    assert not any(str(registry.folder) in command for command in _commands())


def test_a_service_listens_on_the_loopback_of_ipv6_too(registry, model_folder):
    service = registry.deploy("delays", model_folder, host="::1")
    assert service.url == f"http://[::1]:{service.port}"
    assert registry.call("delays", ROWS[:1]) == pytest.approx([17.0])


def test_a_port_that_another_program_has_is_an_error_that_names_it(registry, model_folder, served):
    with pytest.raises(ServiceError, match=f"port {served.port} of 127.0.0.1 cannot be used"):
        registry.deploy("delays", model_folder, port=served.port)


def test_stopping_ends_the_process_and_a_stopped_service_can_be_deployed_again(registry, model_folder):
    first = registry.deploy("delays", model_folder)
    assert registry.stop("delays").status == "stopped"
    assert registry.stop("delays").status == "stopped"
    assert not daemons.alive(first.pid, first.process)
    assert registry.deploy("delays", model_folder).port == first.port
    registry.remove("delays")
    assert registry.list() == []


DEPLOY = """
import sys
from pathlib import Path
from mlflow_pipes.lifecycle import ServiceRegistry
print(ServiceRegistry(Path(sys.argv[1]), orphan_after_s=float(sys.argv[3])).deploy("delays", Path(sys.argv[2])).is_new)
"""


def deployer(registry, model_folder, orphan_after_s=20):
    command = [sys.executable, "-c", DEPLOY, str(registry.folder), str(model_folder), str(orphan_after_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_who_deploy_at_once_start_one_process_that_outlives_both(registry, model_folder):
    two = [deployer(registry, model_folder) for _ in range(2)]
    assert sorted(each.communicate()[0].strip() for each in two) == ["False", "True"]
    assert registry.get("delays").status == "running"
    assert len(_commands(str(registry.folder))) == 1


def test_a_deploy_that_is_killed_half_way_leaves_nothing_that_the_next_does_not_clean_up(registry, model_folder):
    with deployer(registry, model_folder) as killed:
        while not list(registry.folder.glob("delays/releases/*/process.json")):
            time.sleep(0.01)
        killed.kill()
    assert registry.deploy("delays", model_folder).is_new
    assert len(_commands(str(registry.folder))) == 1
    assert len(list((registry.folder / "delays/releases").iterdir())) == 1


def test_a_service_whose_workspace_was_removed_ends_by_itself(tmp_path, model_folder):
    services = ServiceRegistry(tmp_path / "services", orphan_after_s=1)
    service = services.deploy("delays", model_folder)
    shutil.rmtree(tmp_path / "services")
    deadline = time.monotonic() + 60
    while daemons.alive(service.pid, service.process):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _commands(part=""):
    """Return the command lines of living service processes that hold *part*."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "services.server" in command and part in command:
            found.append(command)
    return found
