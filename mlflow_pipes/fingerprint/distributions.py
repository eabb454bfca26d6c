"""Which installed distribution a module comes from, and its version, without reading every package's metadata.

``importlib.metadata.packages_distributions`` parses the records of all packages (hundreds of milliseconds). Here the
name and version come from the name of the ``.dist-info`` folder, and a ``RECORD`` is read only to confirm a guess.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_KNOWN_AS = {
    "PIL": ("pillow",),
    "bs4": ("beautifulsoup4",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "dateutil": ("python-dateutil",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "sklearn": ("scikit-learn",),
    "yaml": ("pyyaml",),
}
_METADATA_FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-[^-]+)*\.(dist-info|egg-info)")
_INSTALLED_PARTS = ("site-packages", "dist-packages")


class Distribution(NamedTuple):
    """An installed distribution: canonical name (PEP 503) and version."""

    name: str
    version: str


def canonical(name: str) -> str:
    """Return a distribution's name in its canonical spelling.

    >>> canonical("scikit_learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_of(file: str) -> Distribution | None:
    """Return the distribution that installed *file*, None when no metadata tells (a copied folder).

    Costs one folder listing and the reading of a record or two; memoised per package and state of the folder.
    """
    site, relative = _split(file)
    if not site:
        return None
    top = relative.split("/")[0]
    # A regular package belongs to one distribution; in a namespace package each file is asked for.
    if "/" in relative and Path(site, top, "__init__.py").is_file():
        relative = f"{top}/__init__.py"
    return _owner(site, Path(site).stat().st_mtime_ns, relative)


def own_distribution(name: str = "mlflow-pipes") -> Distribution:
    """Return our own distribution, which counts by version even when it is installed editable."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Distribution(canonical(name), _version(version, name))
    except PackageNotFoundError:
        return Distribution(canonical(name), "unknown")


@lru_cache(maxsize=8)
def _version(read: object, name: str) -> str:
    assert callable(read)
    return str(read(name))


def _split(file: str) -> tuple[str, str]:
    parts = Path(file).parts
    for index in range(len(parts) - 1, 0, -1):
        if parts[index] in _INSTALLED_PARTS:
            return str(Path(*parts[: index + 1])), "/".join(parts[index + 1 :])
    return "", ""


@lru_cache(maxsize=8)
def _installed(site: str, mtime_ns: int) -> dict[str, tuple[Distribution, str]]:  # noqa: ARG001 - part of the memo
    found: dict[str, tuple[Distribution, str]] = {}
    for entry in sorted(path.name for path in Path(site).iterdir()):
        match = _METADATA_FOLDER.fullmatch(entry)
        if match:
            distribution = Distribution(canonical(match["name"]), match["version"])
            found[distribution.name] = (distribution, f"{site}/{entry}")
    return found


@lru_cache(maxsize=4096)
def _owner(site: str, mtime_ns: int, relative: str) -> Distribution | None:
    installed = _installed(site, mtime_ns)
    top = relative.split("/", maxsplit=1)[0].partition(".")[0]
    likely = [name for name in (canonical(top), *_KNOWN_AS.get(top, ())) if name in installed]
    for name in dict.fromkeys((*likely, *installed)):
        distribution, folder = installed[name]
        if _records(folder, relative):
            return distribution
    return installed[likely[0]][0] if likely else None


def _records(folder: str, relative: str) -> bool:
    for name in ("RECORD", "SOURCES.txt", "installed-files.txt"):
        try:
            content = Path(folder, name).read_bytes()
        except OSError:
            continue
        needle = relative.encode()
        return content.startswith(needle) or b"\n" + needle in content or b"\n../" + needle in content
    return False
