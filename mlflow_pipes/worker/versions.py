"""Whether what is installed for a worker is what its attempts were fingerprinted for."""

from __future__ import annotations

import sys
from collections.abc import Mapping

_MOST_TOLD = 5


def differences(python: str, packages: Mapping[str, str]) -> str:
    """Return in words what differs here from a Python's minor version and packages; empty when nothing does.

    Packages from URLs count by being there. Costs 0.3 ms a package.
    """
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    told = [] if here == python else [f"Python is {here} here, not {python}"]
    from importlib import metadata

    for name, wanted in packages.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            told.append(f"{name} {wanted} is not installed here")
            continue
        if found != wanted and "/" not in wanted:
            told.append(f"{name} is {found} here, not {wanted}")
    more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return "; ".join(told[:_MOST_TOLD]) + more
