"""joblib: functions under Memory; a fan-out by Parallel with two processes (loky), which are kept between calls."""

import protocol
from joblib import Memory, Parallel, delayed
from joblib_steps import increment, shifted, total


def main() -> None:
    """Measure."""
    asked = protocol.task()
    memory = Memory(asked.state / "cache", verbose=0)
    cached_increment, cached_shifted, cached_total = (memory.cache(one) for one in (increment, shifted, total))

    def carried_out(graph: str, size: int, start: int) -> int:
        if graph == "chain":
            x = start
            for _ in range(size):
                x = cached_increment(x)
            return x
        parallel = Parallel(n_jobs=2)
        if graph == "fan_out":
            first = cached_increment(start)
            return cached_total(parallel(delayed(cached_shifted)(first, by) for by in range(size)))
        return sum(parallel(delayed(cached_increment)(item) for item in range(start, start + size)))

    protocol.measure(asked, "joblib", carried_out, again=True)


if __name__ == "__main__":
    main()
