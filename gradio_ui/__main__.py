"""Serve the web interface: ``python -m gradio_ui``."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile

from pydantic import ValidationError

from student_success.core.configuration.addresses import check_port, http_url
from student_success.core.configuration.names import INTERFACE_STARTED
from student_success.core.configuration.settings import Settings, setting_problems
from student_success.core.errors import ConfigurationError
from student_success.core.state_files import interface_running
from student_success.core.subprocesses import bind_to_parent
from student_success.server.uvicorn_connection import limited

GRACEFUL_SHUTDOWN_SECONDS = 5
KEEP_ALIVE_SECONDS = 65


def main() -> int:
    """Serve until the process is stopped; return 2 if it cannot start."""
    bind_to_parent()
    try:
        settings = Settings()
        host = settings.ui_address
        settings.check_exposure(host)
        check_port("UI_PORT", host, settings.ui_port)
    except ValidationError as error:
        print(*setting_problems(error), sep="\n", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        return 2
    # Temporary files hold class lists of pupils.
    os.umask(0o077)
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # httpx logs the address of each request; the address of an erasure contains a session code.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="student-success-ui-") as folder:
        _configure_gradio(folder)
        _serve(settings, host)
    return 0


def _configure_gradio(folder: str) -> None:
    """Turn off Gradio's telemetry, and keep its temporary files in `folder`."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def _serve(settings: Settings, host: str) -> None:
    # Gradio reads its environment when it is imported, so it is imported only now.
    import uvicorn

    from gradio_ui.web.app import create_app

    print(f"Web interface {http_url(host, settings.ui_port)}", flush=True)
    config = uvicorn.Config(
        create_app(settings),
        # Uvicorn itself never gives a slow client up.
        http=limited(settings.request_seconds),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    # Uvicorn itself would listen on `::` without IPv4.
    both = host == "::" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    running: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if INTERFACE_STARTED in os.environ:
        running = interface_running(settings.state_dir)
    with (
        running,
        socket.create_server(
            (host, settings.ui_port), family=family, backlog=2048, dualstack_ipv6=both
        ) as listener,
    ):
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
