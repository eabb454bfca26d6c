"""Dask: futures on a LocalCluster of two processes that runs already. Nothing is stored or recorded, by design."""

import protocol
from distributed import Client, LocalCluster


def increment(x):
    """A step of a chain."""
    return x + 1


def shifted(x, by):
    """A step of a fan-out."""
    return x + by


def main() -> None:
    """Measure."""
    asked = protocol.task()
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(asked.state),
        ) as cluster,
        Client(cluster) as client,
    ):

        def carried_out(graph: str, size: int, start: int) -> int:
            if graph == "chain":
                x = start
                for _ in range(size):
                    x = client.submit(increment, x, pure=False)
                return x.result()
            if graph == "fan_out":
                first = client.submit(increment, start, pure=False)
                parts = [client.submit(shifted, first, by, pure=False) for by in range(size)]
                return client.submit(sum, parts, pure=False).result()
            return sum(client.gather(client.map(increment, range(start, start + size), pure=False)))

        protocol.measure(asked, "distributed", carried_out, again=False)


if __name__ == "__main__":
    main()
