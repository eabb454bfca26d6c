"""Asking the model registry who is champion, in milliseconds: MLflow's client needs seconds to be imported.

Reads the SQLite store and MLflow's REST API. What it cannot read it leaves to MLflow's client.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from mlflow_pipes.credentials import without_credentials
from mlflow_pipes.errors import TrackingError
from mlflow_pipes.lifecycle.models.version import ModelVersion, version_of

_REST_TIMEOUT_S = 30.0


class CannotReadError(Exception):
    """This registry is not of a kind that we read ourselves."""


def sqlite_file(uri: str) -> Path | None:
    """Return the database file of an ``sqlite:///`` URI, None for any other."""
    return Path(unquote(uri.removeprefix("sqlite:///")).partition("?")[0]) if uri.startswith("sqlite:///") else None


def read_alias(uri: str, name: str, alias: str) -> ModelVersion | None:
    """Return the version that *alias* of model *name* points to; None when there is no such model or alias.

    Raises:
        CannotReadError: only MLflow's client can tell.
        TrackingError: the registry does not answer.
    """
    if file := sqlite_file(uri):
        return _read_sqlite(file, uri, name, alias)
    if uri.startswith(("http://", "https://")):
        return _read_rest(uri, name, alias)
    raise CannotReadError


def _read_sqlite(file: Path, uri: str, name: str, alias: str) -> ModelVersion | None:
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=30)) as database:
            found = database.execute(
                "SELECT v.version, v.source, v.run_id FROM registered_model_aliases a JOIN model_versions v"
                " ON v.name = a.name AND v.version = a.version WHERE a.name = ? AND a.alias = ?",
                (name, alias),
            ).fetchone()
            if found is None:
                return None
            version, source, run_id = found
            tags = database.execute(
                "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", (name, version)
            ).fetchall()
    except sqlite3.DatabaseError as error:  # another schema, or not yet initialised
        raise CannotReadError from error
    return version_of(name, version, source, dict(tags), registry=uri, alias=alias, run_id=run_id)


def _read_rest(uri: str, name: str, alias: str) -> ModelVersion | None:
    import json
    import urllib.error
    import urllib.request

    address = f"{without_credentials(uri).rstrip('/')}/api/2.0/mlflow/registered-models/alias"
    query = urlencode({"name": name, "alias": alias})
    request = urllib.request.Request(f"{address}?{query}", headers=_authorization(uri))  # noqa: S310 - http(s) only
    try:
        with urllib.request.urlopen(request, timeout=_REST_TIMEOUT_S) as response:  # noqa: S310
            told: dict[str, Any] = json.load(response)["model_version"]
    except urllib.error.HTTPError as error:
        try:
            code = json.load(error).get("error_code", "")
        except ValueError:
            code = ""
        # An unknown alias of a known model is an INVALID_PARAMETER_VALUE.
        if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise TrackingError(f"model registry {without_credentials(uri)}: {error.code} {error.reason} {code}") from error
    except (OSError, KeyError, ValueError) as error:
        raise TrackingError(f"model registry {without_credentials(uri)} does not answer: {error}") from error
    tags = {tag["key"]: tag.get("value", "") for tag in told.get("tags", ())}
    return version_of(
        name, told["version"], told.get("source", ""), tags,
        registry=without_credentials(uri), alias=alias, run_id=told.get("run_id", ""),
    )  # fmt: skip


def _authorization(uri: str) -> dict[str, str]:
    """Return the header that MLflow's own client would send."""
    import base64
    import os

    parts = urlsplit(uri)
    user = unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if user and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
