"""The supervisor of BentoML's workers, shaped for this service.

It starts and stops them, for which it need not import what they serve: a stand-in with the same
settings says where that is, and the service is ready a tenth sooner.

It is circus, which listens for commands. BentoML gives it a port for that: any user of the machine
could have it run a program of theirs, and another process may take the port between the moment it
was found free and the moment it is listened on. Here it listens on a socket in the state directory,
which is nobody else's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from student_success.core.memory import kept_in_memory, no_collections
from student_success.core.settings import ROOT, Settings

SERVICE = "service:StudentSuccess"
"""What the workers import."""


def service_options(settings: Settings) -> dict[str, Any]:
    """Return what BentoML is told about the service, by the supervisor and by the workers."""
    return {
        "name": "student_success",
        "workers": settings.workers,
        "http": {"host": settings.bind_address, "port": settings.port},
        # Our own access log and request ids stand in the edge.
        "logging": {"access": {"enabled": False}},
        "metrics": {"enabled": True},
        "traffic": {"timeout": settings.train_timeout_seconds},
    }


def stand_in(settings: Settings) -> Any:
    """Return a service of BentoML's whose workers serve ours."""
    import bentoml

    service: Any = bentoml.service(**service_options(settings))(type("StudentSuccess", (), {}))
    service._import_str = SERVICE
    service.working_dir = str(ROOT)
    return service


def supervise(
    settings: Settings, *, home: Path, graceful_seconds: int, keep_alive_seconds: int
) -> None:
    """Serve until told to stop.

    Parameters
    ----------
    home
        BentoML's own folder.
    graceful_seconds
        How long requests may go on after that.
    keep_alive_seconds
        How long a connection is kept that asks nothing.
    """
    # What comes of it stays; looking for garbage meanwhile costs time and finds none.
    with no_collections():
        from _bentoml_impl.server import serve_http
        from bentoml._internal.log import configure_logging
        from bentoml._internal.resource import NvidiaGpuResource

        service = stand_in(settings)
    # The trees run on processors. Looking for graphics cards is a thirtieth of the start.
    NvidiaGpuResource.from_system = list
    listen_in(settings.state_dir / "supervisor")
    configure_logging()
    service.inject_config()
    # The workers' metrics, where BentoML looks for them: they must not fall with a full disk.
    with kept_in_memory(home / "prometheus_multiproc_dir"):
        serve_http(
            service,
            host=settings.bind_address,
            port=settings.port,
            timeout_graceful_shutdown=graceful_seconds,
            timeout_keep_alive=keep_alive_seconds,
        )


def listen_in(folder: Path) -> None:
    """Let the supervisor of this process listen for commands in a folder; Linux only.

    Parameters
    ----------
    folder
        Made if missing, for this user alone.
    """
    if not sys.platform.startswith("linux"):
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Here, because circus sets up logging as soon as it is imported.
    from bentoml._internal.utils.circus import Arbiter

    # A socket's path may be a hundred characters long, and the state directory's is what it is.
    short = f"ipc:///proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}"
    make = Arbiter.__init__

    def made(self: Arbiter, *arguments: Any, **options: Any) -> None:
        options.update(endpoint=f"{short}/commands", pubsub_endpoint=f"{short}/events")
        make(self, *arguments, **options)

    Arbiter.__init__ = made
