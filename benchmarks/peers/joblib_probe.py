"""joblib: a function under Memory that calls a function of its own file and one of another file."""

import sys
from uuid import uuid4

from joblib import Memory
from probe_nearby import times

memory = Memory(f"{sys.argv[1]}/cache", verbose=0)


def plus(x):
    return x + 1


@memory.cache
def probed(x):
    return f"PROBE {times(plus(x)) + 0} {uuid4().hex}"


if __name__ == "__main__":
    print(probed(10))
