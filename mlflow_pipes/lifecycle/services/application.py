"""The HTTP face of a served model: a Starlette application."""

from __future__ import annotations

import asyncio
import time
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from mlflow_pipes.lifecycle.services.scoring import RefusedError, read_request
from mlflow_pipes.lifecycle.services.state import is_loopback

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from starlette.requests import Request

    from mlflow_pipes.lifecycle.services.served import ServedModel

BODY_TIMEOUT_S = 30.0


def application(
    model: ServedModel, *, about: Mapping[str, str], host: str, max_body_bytes: int, log: logging.Logger
) -> Starlette:
    """Return the application that serves *model*; *about* is what ``/version`` tells."""

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", **about})

    async def version(_: Request) -> JSONResponse:
        from mlflow.version import VERSION

        return JSONResponse({**about, "mlflow": VERSION})

    async def invocations(request: Request) -> JSONResponse:
        began = time.perf_counter()
        body = await _body(request, max_body_bytes)
        answer = await run_in_threadpool(_answer, model, body)
        log.info("predicted for %d bytes in %.1f ms", len(body), 1000 * (time.perf_counter() - began))
        return JSONResponse({"predictions": answer})

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RefusedError)
        log.info("refused (%d): %s", error.status, error.message[:500])
        return _error(error.status, error.message)

    async def wrong_address(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path = request.url.path
        said = {
            404: f"nothing at {path}; there are /invocations, /health, /ping and /version",
            405: f"{path} does not take {request.method}; it takes {(error.headers or {}).get('Allow', '')}",
        }
        return _error(error.status_code, said.get(error.status_code, error.detail), error.headers)

    async def failed(_: Request, error: Exception) -> JSONResponse:
        reference = uuid.uuid4().hex[:12]
        log.error("error %s", reference, exc_info=error)
        return _error(500, f"the model failed; the service's log tells why, under error {reference}")

    # Only names of this machine: a web page that rebinds its own name to 127.0.0.1 gets no answer.
    # (Starlette before 1.0 reads "[" out of "[::1]:80".)
    names = ["127.0.0.1", "localhost", "::1", "[::1]", "[", host] if is_loopback(host) else ["*"]
    return Starlette(
        routes=[
            Route("/invocations", invocations, methods=["POST"]),
            Route("/health", health),
            Route("/ping", health),
            Route("/version", version),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names)],
        exception_handlers={RefusedError: refused, HTTPException: wrong_address, _Failure: failed},
    )


class _Failure(Exception):  # noqa: N818 - stands for whatever the model raised
    """The model raised; wrapped so that the handler, not the server's own, answers."""


def _answer(model: ServedModel, body: bytes) -> Any:
    try:
        return model.predict(read_request(body, model.columns))
    except RefusedError:
        raise
    except Exception as error:
        raise _Failure(str(error)) from error


async def _body(request: Request, max_body_bytes: int) -> bytes:
    kind = request.headers.get("content-type", "")
    media, _, options = kind.partition(";")
    charset = options.strip().lower().removeprefix("charset=").strip('"')
    if media.strip().lower() != "application/json" or charset not in {"", "utf-8"}:
        raise RefusedError(415, f"the content type is {kind!r}; send application/json in UTF-8")
    too_large = RefusedError(413, f"the body is larger than the {max_body_bytes} bytes that this service takes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > max_body_bytes:
                    raise too_large
    except TimeoutError:
        raise RefusedError(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None
    return bytes(body)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    content = {"error_code": HTTPStatus(status).name, "message": message}
    return JSONResponse(content, status_code=status, headers=dict(headers) if headers else None)
