"""What of ours an environment needs, so that a worker can run in it.

Our own package is not among it: it is taken along from where it is installed (``worker/own_package.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

OLDEST_PYTHON = (3, 11)
MODULES = ("blake3", "cloudpickle")
"""Third-party modules that every worker imports."""

_ALWAYS = {"blake3": "blake3>=1.0", "cloudpickle": "cloudpickle>=3.0"}
_TABLES = frozenset({"pandas", "polars"})


def support(packages: Mapping[str, str]) -> tuple[str, ...]:
    """Return the requirements to put in beside what is locked; not in any key, and nothing that the lock has.

    >>> support({"pandas": "2.2.3", "cloudpickle": "3.1.0"})
    ('blake3>=1.0', 'pyarrow>=16')
    """
    needed = dict(_ALWAYS)
    if not _TABLES.isdisjoint(packages):
        needed["pyarrow"] = "pyarrow>=16"  # data frames are stored as Arrow
    if "pyarrow" in packages:
        needed["numpy"] = "numpy"  # what stores tables computes with it
    return tuple(requirement for name, requirement in needed.items() if name not in packages)
