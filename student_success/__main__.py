"""The command line: serve, and the registry work that the server gives to child processes.

python -m student_success COMMAND
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from student_success.bulk.arguments import add_arguments as arguments_of_score
from student_success.cli import dotenv
from student_success.core.errors import StudentSuccessError
from student_success.core.settings import RENAMED, ROOT, Settings, enter_root

GRACEFUL_SECONDS = 25
KEEP_ALIVE_SECONDS = 65
"""Longer than the minute that reverse proxies keep idle connections, so that they close first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 is a fault of the caller, 3 one that was reported as JSON."""
    parser = argparse.ArgumentParser(prog="python -m student_success", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve the API with the settings of .env")
    commands.add_parser("mlflow", help="open MLflow's own interface")
    commands.add_parser("secrets", help="give the compose stack's secrets random values in .env")
    promote = commands.add_parser("promote", help="promote a version through the gate")
    promote.add_argument("--request", required=True, help="body of POST /promote, as JSON")
    promote.add_argument("--actor", default="cli")
    promote.add_argument("--locked", action="store_true", help=argparse.SUPPRESS)
    commands.add_parser("align-alias", help="bring MLflow's alias and the service in line")
    fetch = commands.add_parser("fetch", help="bring a deployed version into the Bento store")
    fetch.add_argument("--version", type=int, required=True)
    fetch.add_argument("--sha256", required=True, help="of its manifest, from the deployment")
    trial = commands.add_parser("try", help="try a downloaded version out; nothing is kept of it")
    trial.add_argument("--folder", type=Path, required=True)
    trial.add_argument("--version", required=True)
    commands.add_parser("versions", help="list the registered versions")
    judge = commands.add_parser("judge", help="say what the gate would say of a version")
    judge.add_argument("--version", type=int, required=True)
    commands.add_parser("migrate", help="bring the database schema up to date")
    commands.add_parser("verify", help="check the record of promotions and rollbacks")
    bulk = commands.add_parser("score", help="answer for whole files of pupils, however large")
    arguments_of_score(bulk)
    asked = parser.parse_args(arguments)
    # BentoML's workers run here: `.env` and relative paths must mean the same to them.
    enter_root()
    if asked.command == "secrets":
        return _secrets(Path(".env"))
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in problem["loc"]).upper() or "settings"
            print(f"{name}: {problem['msg']}", file=sys.stderr)
        return 2
    try:
        if asked.command == "serve":
            return _serve(settings)
        if asked.command == "mlflow":
            return _mlflow(settings)
        if asked.command == "try":
            return _try(settings, asked)
        if asked.command == "verify":
            return _verify(settings)
        if asked.command == "migrate":
            from student_success.storage.engine import migrate

            migrate(settings.database, state_dir=settings.state_dir)
            return 0
        if asked.command == "score":
            from student_success.bulk.command import score

            print(score(settings, asked, prepare=lambda: environment(settings)))
            return 0
    except KeyboardInterrupt:
        if asked.command != "score":
            raise
        print("Interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    except StudentSuccessError as error:
        print(error.message, file=sys.stderr)
        return 2
    return _speak(settings, asked)


def _speak(settings: Settings, asked: argparse.Namespace) -> int:
    """Do the registry's work as a child that reports in JSON lines."""
    from student_success.core.subprocesses import bind_to_parent

    bind_to_parent()
    from student_success.core.logging import configure
    from student_success.core.subprocesses import say, speaking
    from student_success.domain.schemas.lifecycle import PromoteRequest
    from student_success.lifecycle import alias_sync, promotion
    from student_success.registry import mlflow_client, versions
    from student_success.storage.deployments import Deployments
    from student_success.storage.engine import connect
    from student_success.storage.locks import Operation, exclusive

    with speaking() as stream:
        environment(settings)
        configure(settings)
        engine = connect(settings.database, synchronous="FULL")
        deployments = Deployments(engine)
        with contextlib.ExitStack() as held:
            if asked.command == "promote" and not asked.locked:
                held.enter_context(
                    exclusive(
                        Operation.DEPLOYMENT,
                        Operation.TRAINING,
                        engine=engine,
                        state_dir=settings.state_dir,
                    )
                )
            if asked.command == "promote":
                result = promotion.promote(
                    settings,
                    deployments,
                    PromoteRequest.model_validate_json(asked.request),
                    actor=asked.actor,
                    report=lambda step: say(stream, "progress", step=step),
                )
                say(stream, "result", **result)
                # It is promoted whether or not MLflow hears of it now.
                alias_sync.align_alias(settings, deployments, may_adopt=False)
                say(stream, "progress", step="aligned")
            elif asked.command == "versions":
                say(stream, "result", versions=mlflow_client.versions(settings))
            elif asked.command == "judge":
                say(stream, "result", **promotion.judge(settings, deployments, asked.version))
            elif asked.command == "align-alias":
                alias_sync.align_alias(settings, deployments, may_adopt=True)
                say(stream, "result")
            else:
                versions.fetch(settings, str(asked.version), fingerprint=asked.sha256)
                say(stream, "result")
    return 0


def _try(settings: Settings, asked: argparse.Namespace) -> int:
    from student_success.core.subprocesses import bind_to_parent, say, speaking

    bind_to_parent()
    from student_success.registry.artefact_check import try_out

    with speaking() as stream:
        fingerprint = try_out(
            asked.folder, version=asked.version, alarm_recall=settings.alarm_recall
        )
        say(stream, "result", fingerprint=fingerprint)
    return 0


def _verify(settings: Settings) -> int:
    from student_success.lifecycle.audit_file import Anchor
    from student_success.storage.deployments import Deployments
    from student_success.storage.engine import connect, migrate

    migrate(settings.database, state_dir=settings.state_dir)
    deployments = Deployments(connect(settings.database))
    problems = deployments.verify() + Anchor(settings.state_dir).check(deployments.hashes())
    for problem in problems:
        print(problem)
    print("the record of deployments is broken" if problems else "the record is whole")
    return 1 if problems else 0


def environment(settings: Settings) -> None:
    """Point BentoML at the state directory, and keep it and MLflow from calling home."""
    os.environ.setdefault("BENTOML_HOME", str(settings.state_dir / "bentoml"))
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    # A worker's few threads need no heaps of their own, which would keep what they once used.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    Path(os.environ["BENTOML_HOME"]).mkdir(parents=True, exist_ok=True, mode=0o700)


def _serve(settings: Settings) -> int:
    settings.check_exposure(settings.host)
    for old, new in RENAMED.items():
        if old in os.environ or old in dotenv.names(Path(".env")):
            print(f"{old} is an old name: it works, but the word is {new} now.", file=sys.stderr)
    token = _token(settings, Path(".env"))
    environment(settings)
    base = f"http://{settings.bind_address}:{settings.port}"
    print(f"API      {base}")
    print(f"Docs     {base}/docs")
    if settings.ui_enabled:
        _start_interface(settings)
    print(f"Token    {token}")
    print(f"State    {settings.state_dir}", flush=True)
    # In this very process: whoever started it can stop it, and nothing is imported twice.
    from student_success.server.supervisor import supervise

    supervise(
        settings,
        home=Path(os.environ["BENTOML_HOME"]),
        graceful_seconds=GRACEFUL_SECONDS,
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
    )
    return 0


def _start_interface(settings: Settings) -> None:
    """Start the web interface beside the API; it ends with it."""
    from student_success.core.subprocesses import die_with_parent

    url = f"http://{settings.ui_host or settings.bind_address}:{settings.ui_port}"
    os.environ.setdefault("UI_URL", url)
    # Safe before exec: this process has one thread.
    subprocess.Popen([sys.executable, "-m", "gradio_ui"], cwd=ROOT, preexec_fn=die_with_parent)
    print(f"Web      {url}")


def _mlflow(settings: Settings) -> int:
    """Open MLflow's own interface on the local registry."""
    if not settings.registry_is_local:
        print(f"MLflow is at {settings.tracking_uri}")
        return 0
    settings.artefact_root.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    print(f"MLflow   http://127.0.0.1:{settings.mlflow_ui_port}", flush=True)
    os.execv(  # noqa: S606 - a shell is what must not be in between
        sys.executable,
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host=127.0.0.1",
            f"--port={settings.mlflow_ui_port}",
            "--workers=1",
            f"--backend-store-uri={settings.tracking_uri}",
            f"--default-artifact-root={settings.artefact_root.as_uri()}",
        ],
    )


def _secrets(path: Path) -> int:
    added = dotenv.add_secrets(path, dotenv.STACK_SECRETS)
    if added:
        print(f"Random values for {', '.join(added)} were written to {path.resolve()}")
    return 0


def _token(settings: Settings, path: Path) -> str:
    """See to it that there is an administrator's token, and say where it is."""
    if "ADMIN_TOKEN" in os.environ and settings.admin_token is not None:
        return "ADMIN_TOKEN of the environment"
    try:
        if settings.admin_token is None and dotenv.add_secrets(path, ["ADMIN_TOKEN"]):
            print(f"A new ADMIN_TOKEN was written to {path.resolve()}")
    except OSError:
        # As in a container: the file system is read-only.
        return "none, so training, promotion, rollback and erasure are closed; set ADMIN_TOKEN"
    return f"ADMIN_TOKEN in {path.resolve()}"


if __name__ == "__main__":
    sys.exit(main())
