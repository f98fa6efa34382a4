"""Start BentoML's supervisor, the process that starts and restarts the workers.

The supervisor is circus, which listens for commands. BentoML gives it a TCP port for that, so any
user of the machine could make it run a program. Here it listens on a socket in the state directory
instead, which only its user can reach.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from student_success.core.configuration.addresses import check_port, http_url
from student_success.core.configuration.bento_home import use_bento_store
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError
from student_success.core.logging import configure
from student_success.core.memory import garbage_collection_paused
from student_success.core.paths import ROOT
from student_success.core.state_files import check_state_dir, private_folder, served_alone
from student_success.domain.recorded_profile import claim_state_dir
from student_success.server.tracing import check_exporter
from student_success.storage.start_check import check_database, check_local_disk

_checked = False
"""Whether `checked_start` checked the start of the server in this process."""
_until_exit = contextlib.ExitStack()

SERVICE = "service:StudentSuccess"
STOP_SECONDS = 8.0
"""Time for a worker to end after its last request; containers get 2 s more."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only a directory with mode 0700 is made in it


def service_options(settings: Settings) -> dict[str, Any]:
    """Return the configuration of the BentoML service."""
    return {
        "name": "student_success",
        "workers": settings.workers,
        "http": {"host": settings.bind_address, "port": settings.port},
        # The middleware writes an access log of its own.
        "logging": {"access": {"enabled": False}},
        "metrics": {"enabled": True},
        "traffic": {"timeout": settings.train_timeout_seconds},
    }


@contextlib.contextmanager
def checked_start(
    settings: Settings, host: str, port: int, *, interface: bool = False
) -> Iterator[None]:
    """Refuse what no worker could start with, and lock the state directory for the block.

    The supervisor would start such workers again for ever.

    Parameters
    ----------
    host, port
        Where the API listens; the host as an IP address.
    interface
        Whether the web interface is started too.

    Raises
    ------
    ConfigurationError
        With the setting that has to change.
    """
    global _checked
    settings.check_exposure(host)
    check_exporter(settings)
    check_state_dir(settings.state_dir)
    claim_state_dir(settings.state_dir)
    home = use_bento_store(settings)
    try:
        private_folder(home)
        if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigurationError(
            f"The service was not started: the Bento store {home} cannot be used "
            f"({error.strerror}). Remove what is in its place, or set BENTOML_HOME."
        ) from error
    with served_alone(
        settings.state_dir, f"the server {http_url(host, port)} (process {os.getpid()})"
    ):
        check_database(settings.database)
        check_local_disk(settings.tracking_uri)
        check_port("PORT", host, port)
        if interface:
            check_port("UI_PORT", settings.ui_address, settings.ui_port)
        _checked = True
        try:
            yield
        finally:
            _checked = False


def check_start_by_bentoml(settings: Settings) -> None:
    """Check a start by `bentoml serve` as `checked_start` does; exit with status 2 if refused."""
    if _checked:
        return
    command = click.get_current_context(silent=True)
    options = command.params if command else {}
    try:
        _until_exit.enter_context(
            checked_start(
                settings,
                options.get("host") or settings.bind_address,
                options.get("port") or settings.port,
            )
        )
    except ConfigurationError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        sys.exit(2)


def supervise(settings: Settings, *, graceful_seconds: int, keep_alive_seconds: int) -> None:
    """Serve until the process is told to stop.

    Parameters
    ----------
    graceful_seconds
        How long running requests may take after that.
    keep_alive_seconds
        How long an idle connection is kept open.
    """
    with garbage_collection_paused():
        # `bentoml.serve` has no parameter for these timeouts; this is what it calls.
        from _bentoml_impl.loader import load
        from _bentoml_impl.server import serve_http
        from bentoml._internal.configuration.containers import BentoMLContainer

        service = load(SERVICE, str(ROOT))
    service.inject_config()
    configure(settings)
    stop_seconds = settings.drain_seconds + graceful_seconds + STOP_SECONDS
    control_workers(settings.state_dir / "supervisor", stop_seconds=stop_seconds)
    with metrics_folder(settings.state_dir) as folder:
        # By default it is in `BENTOML_HOME`, which several servers may share.
        BentoMLContainer.prometheus_multiproc_dir.set(str(folder))
        serve_http(
            service,
            host=settings.bind_address,
            port=settings.port,
            timeout_graceful_shutdown=graceful_seconds,
            timeout_keep_alive=keep_alive_seconds,
        )


def control_workers(directory: Path, *, stop_seconds: float) -> None:
    """Make the supervisor of this process listen in a directory, and bound its stop; Linux only.

    Parameters
    ----------
    directory
        Created if it does not exist, readable by this user only.
    stop_seconds
        After this time a worker that does not stop is killed; BentoML waits for a day.
    """
    if not sys.platform.startswith("linux"):
        return
    private_folder(directory)
    # Imported late, because circus configures logging when it is imported.
    from bentoml._internal.utils.circus import Arbiter

    # The path of a socket is limited to about 100 characters; the state directory's may be longer.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    short_path = f"ipc:///proc/self/fd/{descriptor}"
    original = Arbiter.__init__

    def patched(self: Arbiter, *arguments: Any, **options: Any) -> None:
        options.update(endpoint=f"{short_path}/commands", pubsub_endpoint=f"{short_path}/events")
        original(self, *arguments, **options)
        for watcher in self.watchers:
            watcher.graceful_timeout = stop_seconds

    Arbiter.__init__ = patched


@contextlib.contextmanager
def metrics_folder(state_dir: Path) -> Iterator[Path]:
    """Create an empty folder for the metrics of the server's workers, and remove it at the end.

    The metrics are memory-mapped files. They are in shared memory if there is any: if the disk is
    full, the kernel kills a process that touches a new page of such a file.
    """
    digest = hashlib.sha256(str(state_dir).encode()).hexdigest()[:16]
    name = f"student-success-{os.getuid()}-{digest}"
    try:
        folder = _empty_folder(_SHARED_MEMORY / name)
    except OSError:
        # A folder of its own: other programs may have files in `metrics`.
        folder = _empty_folder(private_folder(state_dir / "metrics") / name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _empty_folder(folder: Path) -> Path:
    # If it belongs to another user, mkdir fails.
    with contextlib.suppress(OSError):
        if folder.lstat().st_uid == os.getuid():
            # A killed server of this state directory left it behind.
            shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder
