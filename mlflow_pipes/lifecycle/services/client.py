"""Talking to a service over HTTP, without any heavy import."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import ArgumentError, ServiceError
from mlflow_pipes.lifecycle.services.plain import plain

if TYPE_CHECKING:
    from mlflow_pipes.lifecycle.services.state import Service


def request(
    service: Service, method: str, path: str, body: bytes | None = None, *, timeout_s: float = 5.0
) -> tuple[int, Any]:
    """Return the status and the decoded JSON (or text) of one exchange.

    Raises:
        ServiceError: nobody answered, or not in time.
    """
    connection = http.client.HTTPConnection(service.host, service.port, timeout=timeout_s)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(
            f"service {service.name!r} does not answer at {service.url}: {type(error).__name__}: {error}"
        ) from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, content.decode("utf-8", "replace")


def healthy(service: Service, *, timeout_s: float = 5.0) -> bool:
    """Tell whether this very release of the service answers and says that it is well."""
    try:
        status, answer = request(service, "GET", "/health", timeout_s=timeout_s)
    except ServiceError:
        return False
    return status == 200 and isinstance(answer, dict) and answer.get("release") == service.release


def predict(service: Service, rows: Any, *, timeout_s: float = 60.0) -> list[Any]:
    """Return the service's prediction for each row.

    Args:
        service: whom to ask.
        rows: a list of dicts by column name, one such dict, a data frame (pandas, polars, pyarrow), or an array or
            nested list for models that take tensors.
        timeout_s: how long to wait for the answer.

    Raises:
        ArgumentError: the service refused the rows; the message is its own.
        ServiceError: it did not answer, or failed.
    """
    body = json.dumps(payload(rows), allow_nan=False).encode()
    status, answer = request(service, "POST", "/invocations", body, timeout_s=timeout_s)
    message = answer.get("message", answer) if isinstance(answer, dict) else answer
    if 400 <= status < 500:
        raise ArgumentError(f"service {service.name!r} refused the rows ({status}): {message}")
    if status != 200 or not isinstance(answer, dict) or "predictions" not in answer:
        raise ServiceError(f"service {service.name!r} failed ({status}): {message}")
    predictions: list[Any] = answer["predictions"]
    return predictions


def payload(rows: Any) -> dict[str, Any]:
    """Return rows as a request of MLflow's scoring protocol.

    >>> payload({"distance": 100.0, "carrier": "UA"})
    {'dataframe_split': {'columns': ['distance', 'carrier'], 'data': [[100.0, 'UA']]}}
    """
    try:
        rows = plain([rows] if isinstance(rows, Mapping) else rows)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the rows cannot be sent to a service: they hold {error}") from None
    if not isinstance(rows, list):
        raise ArgumentError(f"rows must be a list of dicts or a data frame, not {type(rows).__name__}")
    if not rows or not all(isinstance(row, dict) for row in rows):
        return {"inputs": rows}
    columns = list(rows[0])
    if any(row.keys() != rows[0].keys() for row in rows):
        return {"dataframe_records": rows}
    return {"dataframe_split": {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}}
