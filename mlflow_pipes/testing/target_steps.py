"""The steps that :mod:`mlflow_pipes.testing.target_contract` drives targets with, as the text of a module.

Text, because each test writes a file of its own with it: code of a user's, which a worker has not imported before,
whose frames failures show, and which a test may edit.
"""

STEPS = """
import ctypes, logging, os, signal, subprocess, sys, threading, time, warnings
from pathlib import Path
from mlflow_pipes import current_run

def double(x: int) -> int:
    return 2 * x

def helper(x):
    raise ValueError("depth must not be negative")

def fail(x):
    return helper(x)

def fail_in_chain(x):
    try:
        helper(x)
    except ValueError as error:
        error.add_note("seen on a Monday")
        raise RuntimeError("training failed") from error

def exit_with(code):
    sys.exit(code)

def lock(x):
    return {"model": [threading.Lock()]}

def large(size):
    return bytes(size)

def length(x: bytes) -> int:
    return len(x)

def sleep(seconds):
    time.sleep(seconds)
    return seconds

def touch_and_sleep(file, seconds):
    Path(file).write_text(str(os.getpid()))
    time.sleep(seconds)

def segfault(x):
    print("before the end", flush=True)
    ctypes.string_at(0)

def leave(code):
    print("leaving")
    os._exit(code)

def kill_self(x):
    os.kill(os.getpid(), signal.SIGKILL)

def write(count):
    for number in range(count):
        print(f"out {number}")
        print(f"err {number}", file=sys.stderr)
    sys.stdout.write("half a line")

def write_low(x):
    subprocess.run(["sh", "-c", "echo from a child; echo bad >&2"], check=True)
    os.write(1, b"from a descriptor\\n")
    os.write(1, b"\\xff\\xfe not text\\n")

def log(x):
    logging.getLogger("my.module").info("an info line")
    logging.getLogger("my.module").debug("a debug line")
    logging.getLogger("my.module").warning("a warning\\nof two lines")

def environment(name):
    return os.environ.get(name)

def tell_secret(name):
    value = current_run().secret(name)
    print("the password is", value)
    raise ValueError("cannot log in with " + value)

def where(x):
    return os.getcwd()

def move(folder):
    os.chdir(folder)

def about(x):
    run = current_run()
    run.progress(1, 2, "half")
    run.log("loss", 0.5)
    (run.scratch / "file").write_text("x")
    return {"id": run.id, "node": run.node, "attempt": run.attempt, "tags": dict(run.tags), "key": run.idempotency_key,
            "seed": run.random_seed, "offline": run.offline, "scratch": str(run.scratch)}

def flood(lines):
    text = "x" * 99
    for _ in range(lines):
        print(text)

def long_line(size):
    print("y" * size)
"""
