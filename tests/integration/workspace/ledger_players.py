"""Processes that the ledger's crash tests start: ``python ledger_players.py PLAY ARGUMENTS``."""

import sys
import time
from pathlib import Path

from mlflow_pipes.machine.processes import this_host, this_process
from mlflow_pipes.model.run import Claimed, Held, Hit, LookUp, Status
from mlflow_pipes.testing.ledger_records import cached, changed, declared, hex_id, key_of, started, value
from mlflow_pipes.workspace import Workspace


def opened(folder, run):
    workspace = Workspace.open(folder)
    now = time.time()
    record = started(run, started_at=now, host=this_host(), process=this_process())
    workspace.ledger.exchange([record], [], now)
    return workspace.ledger


def compute(folder, run, count):
    """Get every key, computing those that nobody has; append a line for each computed to a file of all players."""
    ledger = opened(folder, run)
    computed = Path(folder) / "computed.txt"
    open_keys = [str(number) for number in range(int(count))]
    open_keys = open_keys[hash(run) % len(open_keys) :] + open_keys[: hash(run) % len(open_keys)]
    while open_keys:
        some = open_keys[:16]
        now = time.time()
        answers = ledger.exchange([], [LookUp(key_of(name), hex_id(run)) for name in some], now)
        held = []
        for name, answer in zip(some, answers, strict=True):
            if isinstance(answer, Claimed):
                with computed.open("a") as stream:
                    stream.write(f"{name} {run}\n")
                ledger.exchange([cached(name, f"value of {name}", answer.token)], [], time.time())
            elif isinstance(answer, Held):
                held.append(name)
            else:
                assert isinstance(answer, Hit)
                assert answer.output == value(f"value of {name}")
        open_keys = open_keys[16:] + held
    ledger.close()


def write_forever(folder, run):
    """Record steps until killed; after every commit append the step's number to a file."""
    ledger = opened(folder, run)
    told = (Path(folder) / f"{run}.told").open("a", buffering=1)
    number = 0
    while True:
        name = f"{run}-{number}"
        now = time.time()
        (answer,) = ledger.exchange([declared(run, name)], [LookUp(key_of(name), hex_id(run))], now)
        ledger.exchange(
            [
                changed(run, name, Status.RUNNING, now),
                cached(name, f"value of {name}", answer.token),
                changed(run, name, Status.SUCCEEDED, now),
            ],
            [],
            now,
        )
        told.write(f"{name}\n")
        number += 1


def hold(folder, run):
    """Claim a key and sleep with it."""
    ledger = opened(folder, run)
    ledger.exchange([declared(run, "slow"), changed(run, "slow", Status.RUNNING)],
                    [LookUp(key_of("slow"), hex_id(run))], time.time())  # fmt: skip
    print("holding", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    {"compute": compute, "write": write_forever, "hold": hold}[sys.argv[1]](*sys.argv[2:])
