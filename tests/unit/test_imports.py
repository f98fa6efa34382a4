"""Importing a module does nothing, and the serving process imports nothing it does not need.

Which package may import which is held by import-linter, see `pyproject.toml`.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

from student_success.core.paths import ROOT
from tests.source_code import syntax_tree

READ_THE_ENVIRONMENT = {
    "student_success/core/configuration/env_files",
    "student_success/core/configuration/bento_home",
    # The folder where the command was started.
    "student_success/core/paths",
    # The folder that BentoML gives the worker.
    "student_success/core/metrics",
    # What a parent tells its child, BentoML's folder, and whether to show a traceback.
    "student_success/core/subprocesses",
    "student_success/cli/context",
    "student_success/cli/output",
}


@cache
def sources() -> dict[str, ast.Module]:
    """Return every module of the program by its path without the ending."""
    found = [ROOT / "service.py", *ROOT.glob("grade_models.py")]
    for package in ("student_success", "training", "gradio_ui"):
        found += (ROOT / package).rglob("*.py")
    return {path.relative_to(ROOT).with_suffix("").as_posix(): syntax_tree(path) for path in found}


def test_environment_is_read_in_one_place() -> None:
    for path, tree in sources().items():
        if path in READ_THE_ENVIRONMENT:
            continue
        for node in ast.walk(tree):
            read = (
                isinstance(node, ast.Call) and ast.unparse(node.func) in ENVIRONMENT_READERS
            ) or (
                isinstance(node, ast.Subscript)
                and ast.unparse(node.value) == "os.environ"
                and isinstance(node.ctx, ast.Load)
            )
            assert not read, f"{path}: {ast.unparse(node)}"


ENVIRONMENT_READERS = {"os.environ.get", "os.getenv", "os.environ.pop"}

_WATCH_IMPORTS = """
import importlib, json, logging, os, sys
import bentoml, _bentoml_sdk, sqlalchemy, alembic, structlog, starlette, pydantic_settings, numpy
import typer, onnxruntime, prometheus_client, platformdirs, zlib, sqlite3, ctypes, uuid
import bentoml._internal.server.http.traffic, bentoml._internal.server.http.instruments
import opentelemetry.instrumentation.asgi

done = []
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if (mode and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR):
            done.append(f"open {path} {mode}")
    elif event == "os.putenv" and arguments[0] == b"ORT_DISABLE_TELEMETRY":
        pass  # must be said before onnxruntime is imported
    elif event in ("os.mkdir", "os.remove", "os.rename", "socket.connect", "socket.bind",
                   "sqlite3.connect", "subprocess.Popen", "os.fork", "os.posix_spawn",
                   "os.putenv", "signal.pthread_kill"):
        done.append(f"{event} {arguments}")
    elif event == "_thread.start_new_thread":
        done.append(event)

def state():
    root = logging.getLogger()
    return {
        "handlers": list(map(str, root.handlers)),
        "level": root.level,
        "loggers": sorted(
            name for name, logger in root.manager.loggerDict.items()
            if name.startswith("student_success") and getattr(logger, "handlers", None)
        ),
        "settings": [
            name for name, module in sys.modules.items() if name.startswith("student_success.core")
            for value in vars(module).values() if type(value).__name__ == "Settings"
        ],
    }

before = state()
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
after = state()
after["settings"] = after["settings"] or before["settings"]
print(json.dumps({"done": done, "same": before == after, "after": after}))
"""


def run(code: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "STATE_DIR": str(folder / "state"),
            "BENTOML_HOME": str(folder),
            "BENTOML_DO_NOT_TRACK": "True",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_importing_a_module_does_nothing(tmp_path: Path) -> None:
    names = sorted(
        path.removesuffix("/__init__").replace("/", ".")
        for path in sources()
        # Modules that import heavy or optional libraries are imported by child processes alone.
        if path.startswith("student_success/")
        and not path.startswith(("student_success/storage/migrations", "student_success/bulk"))
        and not path.endswith("__main__")
    )
    told = json.loads(run(_WATCH_IMPORTS, *names, folder=tmp_path))
    assert told["done"] == []
    assert told["same"], told["after"]


_LIST_MODULES = """
import json, sys
import service
# Imported when the service is opened.
import student_success.services.application
from student_success.model.predictor import Predictor
predictor = Predictor.load(service.settings.seed_model_path, version="seed")
predictor.check_smoke()
service.StudentSuccess.to_asgi()
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_serving_imports_none_of_what_training_needs(tmp_path: Path) -> None:
    loaded = set(json.loads(run(_LIST_MODULES, folder=tmp_path)))
    assert {"bentoml", "onnxruntime", "sqlalchemy"} <= loaded
    assert not {"pyarrow", "dask", "distributed", "tqdm"} & loaded
    heavy = {"mlflow", "sklearn", "pandas", "scipy", "alembic", "skops", "onnx", "matplotlib"}
    assert not heavy & loaded
    assert not {"training", "gradio", "gradio_ui", "joblib", "requests"} & loaded


_CHECK_START = """
import json, sys
import service
from student_success.server import supervisor
supervisor.service_options(service.settings)
with supervisor.checked_start(service.settings, "127.0.0.1", 0):
    print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_process_that_starts_the_workers_imports_no_database_library(tmp_path: Path) -> None:
    for _ in ("new", "again"):
        loaded = set(json.loads(run(_CHECK_START, folder=tmp_path)))
        assert "bentoml" in loaded
        assert not {"sqlalchemy", "alembic", "onnxruntime", "numpy"} & loaded


_WITHOUT_POSIX = """
import builtins, importlib, os, sys
# These have ways of their own.
import _bentoml_sdk, bentoml, filelock, gradio, joblib, onnxruntime, pandas, pyarrow, scipy, sklearn
import sqlalchemy, uvicorn

ours = ("student_success", "training", "gradio_ui", "service", "grade_models")
their_import = builtins.__import__

def without_posix(name, globals=None, *rest, **options):
    if name in ("fcntl", "resource", "pwd", "grp", "termios"):
        if (globals or {}).get("__name__", "").partition(".")[0] in ours:
            raise ModuleNotFoundError(name)
    return their_import(name, globals, *rest, **options)

builtins.__import__ = without_posix
for name in ("sched_getaffinity", "register_at_fork", "getuid", "sched_setscheduler"):
    delattr(os, name)
"""

_IMPORT_ALL = """
for name in sys.argv[1:]:
    importlib.import_module(name)
print("imported")
"""

_LOCK_A_FOLDER = """
from pathlib import Path
from student_success.core.errors import ConfigurationError
from student_success.core.state_files import served_alone
try:
    with served_alone(Path(sys.argv[1]), "a server"):
        print("started")
except ConfigurationError as error:
    print(error.message)
"""


def test_every_module_can_be_imported_without_what_windows_lacks(tmp_path: Path) -> None:
    names = sorted(
        path.removesuffix("/__init__").replace("/", ".")
        for path in sources()
        if not path.startswith("student_success/storage/migrations")
        and not path.endswith("__main__")
    )
    assert {"service", "grade_models", "training.train", "student_success.bulk.run"} <= set(names)
    assert run(_WITHOUT_POSIX + _IMPORT_ALL, *names, folder=tmp_path) == "imported"


def test_start_is_refused_in_words_on_native_windows(tmp_path: Path) -> None:
    said = run(_WITHOUT_POSIX + _LOCK_A_FOLDER, str(tmp_path), folder=tmp_path)
    assert said.startswith("Nothing was started or changed: native Windows is not supported.")
