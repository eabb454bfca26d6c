"""Hamilton: functions as nodes, its cache on (pickles in a folder, metadata in SQLite), run in this thread."""

import protocol
from hamilton import ad_hoc_utils, driver
from hamilton.function_modifiers import group, inject, parameterize, source, value


def functions_of(graph: str, size: int) -> list:
    """Return the functions that a graph is made of."""
    if graph == "chain":

        @parameterize(**{f"number_{n}": {"x": source(f"number_{n - 1}")} for n in range(1, size + 1)})
        def number(x: int) -> int:
            return x + 1

        return [number]
    if graph == "fan_out":

        def first(number_0: int) -> int:
            return number_0 + 1

        @parameterize(**{f"part_{by}": {"by": value(by)} for by in range(size)})
        def part(first: int, by: int) -> int:
            return first + by

        @inject(parts=group(*[source(f"part_{by}") for by in range(size)]))
        def total(parts: list[int]) -> int:
            return sum(parts)

        return [first, part, total]

    @parameterize(**{f"item_{n}": {"n": value(n)} for n in range(size)})
    def item(number_0: int, n: int) -> int:
        return number_0 + n + 1

    return [item]


def main() -> None:
    """Measure."""
    asked = protocol.task()
    made = 0

    def carried_out(graph: str, size: int, start: int) -> int:
        nonlocal made
        made += 1
        module = ad_hoc_utils.create_temporary_module(*functions_of(graph, size), module_name=f"graph_{made}")
        built = driver.Builder().with_modules(module).with_cache(path=str(asked.state / "cache")).build()
        wanted = {
            "chain": [f"number_{size}"],
            "fan_out": ["total"],
            "map": [f"item_{n}" for n in range(size)],
        }[graph]
        return sum(built.execute(wanted, inputs={"number_0": start}).values())

    protocol.measure(asked, "apache-hamilton", carried_out, again=True)


if __name__ == "__main__":
    main()
