"""Commands that start servers or prepare their start: serve, ui, mlflow, secrets, migrate."""

from __future__ import annotations

import difflib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec

import typer

from student_success.cli import context, dotenv
from student_success.cli.context import open_settings, require_extra
from student_success.core.configuration.addresses import ANY_ADDRESS, http_url
from student_success.core.configuration.bento_home import use_bento_store
from student_success.core.configuration.env_files import env_files
from student_success.core.configuration.names import INTERFACE_STARTED, REMOVED, RENAMED
from student_success.core.configuration.settings import Settings
from student_success.core.state_files import private_folder

GRACEFUL_SECONDS = 25
LONGEST_PAUSE_SECONDS = 60.0
INTERFACE_STOPPED = (0, -signal.SIGINT, -signal.SIGTERM)
"""Exit statuses of an interface that was stopped on purpose."""
KEEP_ALIVE_SECONDS = 65
"""Longer than the minute that reverse proxies keep idle connections, so that they close first."""
MISSPELT_SIMILARITY = 0.85
"""How similar an unknown name must be to a setting to count as misspelt, as difflib's ratio.

All names of the compose stack and `MLFLOW_TRACKING_USERNAME` are below it.
"""


def serve() -> None:
    """Serve the API, and the web interface beside it, with the settings of the environment."""
    settings = open_settings()
    _warn_of_names()
    base = http_url(settings.bind_address, settings.port)
    # In this process: signals reach the server, and nothing is imported twice.
    from student_success.server import supervisor

    with supervisor.checked_start(
        settings, settings.bind_address, settings.port, interface=settings.ui_enabled
    ):
        token = _ensure_token(settings)
        typer.echo(f"API      {base}\nDocs     {base}/docs")
        if settings.ui_enabled:
            _start_interface(settings)
        typer.echo(f"Token    {token}\nState    {settings.state_dir}")
        sys.stdout.flush()
        supervisor.supervise(
            settings, graceful_seconds=GRACEFUL_SECONDS, keep_alive_seconds=KEEP_ALIVE_SECONDS
        )


def ui() -> None:
    """Serve the web interface alone; `UI_API_URL` says where the API is."""
    require_extra("ui", "gradio")
    open_settings()
    _warn_of_names()
    from gradio_ui.__main__ import main

    raise typer.Exit(main())


def mlflow() -> None:
    """Open MLflow's own pages on the local registry."""
    settings = open_settings()
    if not settings.registry_is_local:
        from student_success.registry.mlflow_client import split_login

        typer.echo(f"MLflow is at {split_login(settings.tracking_uri)[0]}")
        return
    # The client alone has no server: that is in the full package.
    require_extra("mlflow", "flask")
    private_folder(settings.artefact_root)
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    typer.echo(f"MLflow   http://127.0.0.1:{settings.mlflow_ui_port}")
    sys.stdout.flush()
    os.execv(  # noqa: S606 - replaces this process, so that signals reach the server
        sys.executable,
        [
            *(sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", "--workers=1"),
            f"--port={settings.mlflow_ui_port}",
            f"--backend-store-uri={settings.tracking_uri}",
            f"--default-artifact-root={settings.artefact_root.as_uri()}",
        ],
    )


def bentoml(arguments: typer.Context) -> None:
    """Run a command of BentoML on the Bento store of the settings, e.g. `bentoml models list`."""
    # With the user's umask: an image has the modes of the files that it is built from.
    private_folder(use_bento_store(open_settings(private=False)))
    if arguments.args[:1] == ["containerize"]:
        # It copies the Bento to a temporary folder, and then only reads files below this one.
        os.chdir("/")
    os.execv(  # noqa: S606 - as for MLflow
        sys.executable, [sys.executable, "-m", "bentoml", *arguments.args]
    )


def secrets() -> None:
    """Write random values for missing secrets of the compose stack into `.env`."""
    path = context.env_file_to_write(open_settings())
    private_folder(path.parent)
    if added := dotenv.add_secrets(path, dotenv.STACK_SECRETS):
        typer.echo(f"Random values for {', '.join(added)} were written to {path}")


def migrate() -> None:
    """Bring the database schema up to date; `serve` does it by itself."""
    with context.open_database(open_settings()):
        pass


def configuration() -> None:
    """Print every setting with its default, as Markdown."""
    from student_success.cli.configuration import markdown

    typer.echo(markdown(), nl=False)


def _warn_of_names() -> None:
    for warning in _name_warnings():
        typer.echo(warning, err=True)


def _name_warnings() -> Iterator[str]:
    """Warn of old names in the environment and `.env` files, and of misspelt ones in the files."""
    present = {*os.environ, *(name for path in env_files() for name in dotenv.names(path))}
    for old, new in RENAMED.items():
        if old in present:
            yield f"{old} is an old name that still works; use {new}."
    for name in REMOVED:
        if name in present:
            yield f"{name} is no longer a setting and has no effect; remove it."
    settings = [name.upper() for name in Settings.model_fields]
    known = {*settings, *RENAMED, *REMOVED, *dotenv.STACK_SECRETS}
    for path in env_files():
        for name in sorted(dotenv.names(path, with_value=False)):
            similar = difflib.get_close_matches(name.upper(), settings, 1, MISSPELT_SIMILARITY)
            if similar and name.upper() not in known:
                yield f"{name} in {path} is not a setting and has no effect; use {similar[0]}."


def _start_interface(settings: Settings) -> None:
    """Start the web interface as a child process that ends with this one.

    It is started again when it dies, and the API's `/health` says while it does not answer.
    """
    if find_spec("gradio") is None:
        typer.echo("Web      not installed: pip install 'student-success[ui]'")
        return
    url = http_url(settings.ui_address, settings.ui_port)
    if not settings.ui_url:
        # A browser cannot open the address of all interfaces: "*" is the host that it asked for.
        shown = "*" if settings.ui_address in ANY_ADDRESS else settings.ui_address
        os.environ["UI_URL"] = http_url(shown, settings.ui_port) + settings.root_path
    os.environ[INTERFACE_STARTED] = "true"
    threading.Thread(target=_keep_interface, name="interface", daemon=True).start()
    typer.echo(f"Web      {url}")


def _keep_interface() -> None:
    from student_success.core.subprocesses import bound_environment

    pause = 1.0
    while True:
        began = time.monotonic()
        # The kernel ends the child with the thread that started it: this one, which never ends.
        status = subprocess.call([sys.executable, "-m", "gradio_ui"], env=bound_environment())
        if status in INTERFACE_STOPPED:
            return
        pause = 1.0 if time.monotonic() - began > LONGEST_PAUSE_SECONDS else pause
        typer.echo(f"The web interface ended ({status}); it starts again in {pause:g} s.", err=True)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _ensure_token(settings: Settings) -> str:
    """Create an administrator's token if there is none; return where it is, in words."""
    if settings.admin_token is not None:
        if "ADMIN_TOKEN" in os.environ:
            return "ADMIN_TOKEN of the environment"
        last = [path for path in env_files() if "ADMIN_TOKEN" in dotenv.names(path)][-1]
        return f"ADMIN_TOKEN in {last}"
    path = context.env_file_to_write(settings)
    try:
        private_folder(path.parent)
        dotenv.add_secrets(path, ["ADMIN_TOKEN"])
    except OSError:
        # As in a container with a read-only file system.
        return "none, so training, promotion, rollback and erasure are closed; set ADMIN_TOKEN"
    typer.echo(f"A new ADMIN_TOKEN was written to {path}")
    return f"ADMIN_TOKEN in {path}"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (serve, ui, mlflow, secrets, migrate, configuration):
        app.command(rich_help_panel="Servers")(command)
    app.command(
        rich_help_panel="Servers",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(bentoml)
