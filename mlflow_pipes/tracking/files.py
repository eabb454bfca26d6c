"""A run's artifacts on their way to MLflow: stored trees laid out once, small files written beside them."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mlflow_pipes.errors import BlobCorruptError, BlobMissingError
from mlflow_pipes.worker.capture.location import BESIDE, subfolder_of_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from mlflow_pipes.model.artifact import Leaf
    from mlflow_pipes.ports import Datastore
    from mlflow_pipes.tracking.sheet import Files

_logger = logging.getLogger(__name__)


class LaidOut:
    """Trees of a datastore as folders on this machine, for as long as the ``with`` block lasts."""

    def __init__(self, datastore: Datastore) -> None:
        self._datastore = datastore
        self._scratch: Path | None = None
        self._folders: dict[str, Path | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _place(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="pipes-publish-"))
        return self._scratch

    def tree(self, tree: Leaf) -> Path | None:
        """Return the folder of a stored tree; None when its bytes are gone."""
        if tree.identity not in self._folders:
            from mlflow_pipes import content

            try:
                folder = content.load(tree, self._datastore, Path, checkout=self._place() / tree.identity)
                self._folders[tree.identity] = Path(folder)
            except (BlobMissingError, BlobCorruptError) as error:
                _logger.warning("logged files are not published: %s", error)
                self._folders[tree.identity] = None
        return self._folders[tree.identity]

    def of_run(self, files: Files) -> Iterator[tuple[str, Path]]:
        """Yield a run's files: path among its artifacts, and where the bytes are now."""
        folder = self.tree(files.tree) if files.tree else None
        if folder is not None:
            yield from walk(folder / files.subfolder, skip=BESIDE if not files.subfolder else None)
        for path, text in files.texts.items():
            yield path, self._written(path, text.encode())
        for path, figure in files.figures.items():
            try:
                png = figure.inline if figure.inline is not None else bytes(self._datastore.read(figure.digest))
            except (BlobMissingError, BlobCorruptError) as error:
                _logger.warning("a figure is not published: %s", error)
            else:
                yield path, self._written(path, png)

    def of_model(self, files: Files, model_id: str) -> Path | None:
        """Return the folder with a logged model's files, if there is one."""
        folder = self.tree(files.tree) if files.tree else None
        if folder is None or not (folder / subfolder_of_model(model_id)).is_dir():
            return None
        return folder / subfolder_of_model(model_id)

    def _written(self, path: str, content: bytes) -> Path:
        target = Path(tempfile.mkdtemp(dir=self._place())) / Path(path).name
        target.write_bytes(content)
        return target


def walk(folder: Path, skip: str | None = None) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder, with their paths in it; *skip* names one subfolder to leave out."""
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.name != skip:
                yield from ((f"{entry.name}/{path}", file) for path, file in walk(entry))
        else:
            yield entry.name, entry


def copy_into(target: Path, source: Path) -> None:
    """Copy a file so that *target* is there whole or not at all; nothing to do when it is there already."""
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, partial)
    partial.replace(target)
