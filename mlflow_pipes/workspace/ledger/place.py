"""Where a workspace's ledger is when it is not in the workspace; its password is in no text that is made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.machine.whole_files import write_whole
from mlflow_pipes.quick_dataclasses import dataclass

DEFAULT_SCHEMA = "pipes"
# In a workspace whose ledger is elsewhere: where. Written when it is opened.
PLACE_FILE = "ledger.url"

_FORM = "postgresql://user:${PASSWORD_VARIABLE}@host:5432/database?schema=pipes"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class PostgresqlPlace:
    """A schema of a PostgreSQL database: one workspace each.

    Attributes:
        written: the setting as the user wrote it, for child processes.
        host, port, user, password: None for what libpq takes (``PGHOST``, ``PGPASSWORD``, ``~/.pgpass`` ...).
        options: other parameters of libpq, such as ``sslmode``.
    """

    written: str = field(repr=False)
    database: str
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str = DEFAULT_SCHEMA
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Return the place without user, password and options: for messages and for comparing."""
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host or ""
        port = f":{self.port}" if self.port else ""
        return f"postgresql://{host}{port}/{self.database}?schema={self.schema}"


def parse_place(written: str, environ: Mapping[str, str], where: str) -> PostgresqlPlace:
    """Return the place that a ``ledger`` setting names; ``${NAME}`` in it stands for an environment variable.

    Args:
        written: ``postgresql://user@host:port/database?schema=name&sslmode=require``, or one ``${NAME}`` with all that.
        environ: where the variables are.
        where: which file or variable says so, for messages.

    Raises:
        ConfigurationError: it is no such URL, or a variable is not set. The message never quotes the URL: a password
            with characters that must be written as %XX may stand anywhere in it.
    """

    def filled(text: str) -> str:
        for name in _REFERENCE.findall(text):
            if name not in environ:
                raise ConfigurationError(
                    f"{where}: the environment variable {name}, which it names, is not set: set it"
                )
        return _REFERENCE.sub(lambda found: environ[found[1]], text)

    def part(text: str | None) -> str | None:
        return filled(unquote(text)) if text else None

    url = filled(written) if _REFERENCE.fullmatch(written) else written
    wrong = ConfigurationError(
        f"{where}: this is no PostgreSQL URL: write {_FORM} (and characters such as @ : / ? # in a password as %XX). "
        "Without the setting the ledger is a SQLite file in the workspace"
    )
    try:
        parts = urlsplit(url)
        place = urlsplit("//" + filled(parts.netloc.rpartition("@")[2]))
        port, host = place.port, place.hostname
    except ValueError:
        raise wrong from None
    database = part(parts.path[1:])
    odd = not database or parts.fragment or re.search("[/@]", parts.path[1:])
    if parts.scheme not in {"postgresql", "postgres"} or odd:
        raise wrong from None
    assert database is not None
    try:
        options = (
            {name: filled(text) for name, text in parse_qsl(parts.query, strict_parsing=True)} if parts.query else {}
        )
    except ValueError:
        raise wrong from None
    schema = options.pop("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"{where}: the schema must be named with small letters, digits and _, not {schema!r} "
            "(63 at most; not beginning with a digit or pg_)"
        )
    return PostgresqlPlace(
        written, database, host, port, part(parts.username), part(parts.password), schema=schema, options=options
    )


def remembered_place(folder: Path) -> str | None:
    """Return where the ledger of the workspace *folder* is, as text; None when it is in the workspace, or new."""
    try:
        return (folder / PLACE_FILE).read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_place(folder: Path, place: PostgresqlPlace | None) -> None:
    """See to it that a workspace whose ledger is elsewhere is not given a new one in its folder.

    Raises:
        ConfigurationError: it is known to be elsewhere, and nothing says now where: a new, empty one would look as if
            all history were lost.
    """
    known = remembered_place(folder)
    if place is None and known is not None:
        raise ConfigurationError(
            f"the ledger of the workspace {folder} is at {known}, but nothing that holds here says how to open it: set "
            f"ledger = ... in pipes.toml or PIPES_LEDGER (or remove {folder / PLACE_FILE} to begin a new one in the "
            "workspace)"
        )


def remember_place(folder: Path, place: PostgresqlPlace | None) -> None:
    """Write down where the ledger of the workspace *folder* is, once it could be opened there."""
    if place is not None and remembered_place(folder) != str(place):
        write_whole(folder / PLACE_FILE, f"{place}\n")
        (folder / PLACE_FILE).chmod(0o644)  # nothing secret in it, and others may share the workspace


def is_workspace(folder: Path) -> bool:
    """Return whether a workspace was made in *folder*."""
    return (folder / "ledger.db").is_file() or (folder / PLACE_FILE).is_file()
