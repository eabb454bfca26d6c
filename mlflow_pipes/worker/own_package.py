"""Our own package in a folder that holds nothing else: for interpreters that do not have it installed."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from mlflow_pipes.digests import digest_record

_PACKAGES = ("mlflow_pipes", "mlflow_pipes_steps")


def own_package(folder: Path) -> Path:
    """Return a folder below *folder* with links to our packages and their metadata, made when it is not there.

    Safe for several processes at once. Where we are installed, the packages of this interpreter stand beside us: an
    import from there would give them to the other one, too.
    """
    links = own_parts()
    name = f"ours-{digest_record('pipes.own-package/1', tuple(sorted(links.items())))[:16]}"
    place = folder / name
    if place.exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
    for link, target in links.items():
        (made / link).symlink_to(target)
    made.chmod(0o755)
    with suppress(OSError):  # another process was faster
        made.rename(place)
    shutil.rmtree(made, ignore_errors=True)
    return place


def own_parts() -> dict[str, str]:
    """Return our packages and their metadata: the name that each must have in a folder that is imported from -> where.

    All that another interpreter needs of ours.
    """
    found = {}
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found[package] = str(Path(spec.origin).parent)
    with suppress(metadata.PackageNotFoundError):
        own = metadata.distribution("mlflow_pipes")
        folder = Path(str(own.locate_file(f"mlflow_pipes-{own.version}.dist-info")))
        if folder.is_dir():
            found[folder.name] = str(folder)
    return found
