"""How long it takes until something can happen: import and ``pipes --help``, in CPU seconds of a whole process."""

from __future__ import annotations

from benchmarks.measuring import Figure, median_of, process


def measure(runs: int = 7) -> list[Figure]:
    """Return the figures."""
    python, _ = median_of(runs, lambda: process(["-c", "pass"]).cpu_s)
    imported, spread = median_of(runs, lambda: process(["-c", "import mlflow_pipes"]).cpu_s)
    used, used_spread = median_of(runs, lambda: process(["-c", "from mlflow_pipes import step, pipeline"]).cpu_s)
    helped, help_spread = median_of(runs, lambda: process(["-m", "mlflow_pipes", "--help"]).cpu_s)
    base = f"bare Python is {python * 1000:.0f} ms of it; "
    return [
        Figure("`import mlflow_pipes`", f"{imported * 1000:.0f} ms CPU", "150 ms CPU", base + spread),
        Figure(
            "`from mlflow_pipes import step, pipeline`", f"{used * 1000:.0f} ms CPU", "150 ms CPU", base + used_spread
        ),
        Figure("`pipes --help`", f"{helped * 1000:.0f} ms CPU", "300 ms CPU", base + help_spread),
    ]
