"""Hamilton: a node under the cache that calls a function of its own file and one of another file."""

import sys
from uuid import uuid4

from hamilton import driver
from probe_nearby import times


def _plus(x):
    return x + 1


def probed(number: int) -> str:
    return f"PROBE {times(_plus(number)) + 0} {uuid4().hex}"


if __name__ == "__main__":
    built = driver.Builder().with_modules(sys.modules["__main__"]).with_cache(path=f"{sys.argv[1]}/cache").build()
    print(built.execute(["probed"], inputs={"number": 10})["probed"])
