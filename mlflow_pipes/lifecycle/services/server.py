"""The service's own process: ``python -m mlflow_pipes.lifecycle.services.server RELEASE_FOLDER``.

Reads ``release.json`` there, loads the model, tries it on its input example, listens, and tells so in ``ready.json``.
It ends by itself when the workspace no longer names it (a deploy that was killed half way, a removed workspace).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_pipes.lifecycle.services.state import read_json, read_service, write_json
from mlflow_pipes.machine.daemons import detach

if TYPE_CHECKING:
    import socket

    import uvicorn


def main() -> None:
    """Serve until told to stop."""
    release = Path(sys.argv[1])
    settings = read_json(release / "release.json")
    if settings is None:
        raise SystemExit(f"no release.json in {release}")
    detach(release / "process.json")

    import uvicorn

    from mlflow_pipes.lifecycle.services.application import application
    from mlflow_pipes.lifecycle.services.served import ServedModel
    from mlflow_pipes.lifecycle.services.server_log import log_to

    log = log_to(release / "log.txt", service=settings["name"], version=settings["version"])
    log.info("loading model %s", settings["model_digest"][:16])
    model = ServedModel.load(release / "model")
    listening = listen(settings)
    port = listening.getsockname()[1]
    app = application(
        model,
        about={key: settings[key] for key in ("name", "version", "model_digest", "release")},
        host=settings["host"],
        max_body_bytes=settings["max_body_bytes"],
        log=log,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            limit_concurrency=256,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=5,
            server_header=False,
            lifespan="off",
        )
    )
    _end_when_orphaned(server, release, after_s=settings["orphan_after_s"])
    write_json(release / "ready.json", {"port": port})
    log.info("listening on %s port %d", settings["host"], port)
    server.run(sockets=[listening])
    log.info("stopped")


def listen(settings: dict[str, Any]) -> socket.socket:
    """Return a listening socket on the wanted port, or on a free one where the wanted port is only preferred.

    The port may be shared with the release that this one replaces (SO_REUSEPORT): both listen for a moment, so a
    service keeps its address and refuses nobody while its model changes.
    """
    import socket

    family = socket.AF_INET6 if ":" in settings["host"] else socket.AF_INET
    wanted, shared, must = settings["port"], settings["port_is_ours"], settings["port_required"]
    if wanted and not shared:
        with socket.socket(family) as probe:  # without SO_REUSEPORT: is anybody else on it?
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings["host"], wanted))
            except OSError as error:
                if must:
                    raise SystemExit(f"port {wanted} of {settings['host']} cannot be used: {error.strerror}") from None
                wanted = 0
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if wanted:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((settings["host"], wanted))
    else:
        # Take a free port as its only owner, then again in a way that lets a later release of ours share it.
        with socket.socket(family) as finder:
            finder.bind((settings["host"], 0))
            free = finder.getsockname()[1]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((settings["host"], free))
    listening.listen(128)
    return listening


def _end_when_orphaned(server: uvicorn.Server, release: Path, *, after_s: float) -> None:
    """Stop *server* once the service's state has not named this release for *after_s* seconds."""
    import threading
    import time

    def named() -> bool:
        service = read_service(release.parent.parent)
        return service is not None and service.release == release.name and service.status != "stopped"

    def watch() -> None:
        last_named = time.monotonic()
        while time.monotonic() - last_named <= after_s:
            time.sleep(min(5.0, after_s / 4))
            if named():
                last_named = time.monotonic()
        server.should_exit = True

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()


if __name__ == "__main__":
    main()
