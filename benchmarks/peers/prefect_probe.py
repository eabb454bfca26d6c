"""Prefect: a task cached by its source and inputs that calls a function of its own file and one of another file."""

from uuid import uuid4

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from probe_nearby import times


def plus(x):
    return x + 1


@task(persist_result=True, cache_policy=TASK_SOURCE + INPUTS)
def probed(x):
    return f"PROBE {times(plus(x)) + 0} {uuid4().hex}"


@flow
def probing():
    return probed(10)


if __name__ == "__main__":
    print(probing())
