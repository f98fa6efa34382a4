"""The walls of the house: which room may import what, and that importing does nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from student_success.settings import ROOT

# Imports go down or stay on a floor, and never in a circle. A new room needs a floor: choose one.
FLOORS: dict[str, set[str]] = {
    "facts": {
        *("clock", "decision", "dotenv", "errors", "settings", "students", "metrics", "tally"),
        *("identifiers", "idempotency", "evidence", "homogeneity", "memory", "onnx_trees"),
        *("cells", "scratch"),
    },
    "rules": {
        *("grading", "schemas", "strict_json", "comparison", "gate", "manifest", "predictor"),
        *("attribution", "explain", "encoding", "wording", "auth", "children", "database"),
        *("drift", "locks", "logs", "drain", "attendance", "trial", "seal"),
    },
    "records": {
        *("registry", "committer", "erasure", "history", "deployments", "outcomes", "anchor"),
        *("observed", "store", "direct", "wal"),
    },
    "work": {
        *("promotion", "champion", "jobs", "monitor", "inference", "explanations"),
        *("application", "late"),
    },
    "edge": {
        *("http", "connections", "contract", "openapi", "routes", "bento", "bulk", "supervisor"),
        *("answers", "__main__"),
    },
}
NO_ROOMS = {"migrations"}
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS.values()) for room in rooms}

# Who may import what from outside, among `student_success` and the programs beside it.
WALLS: dict[str, set[str]] = {
    "mlflow": {"student_success/registry", "training"},
    "bentoml": {
        *("service", "student_success/bento"),
        *("student_success/store", "student_success/direct", "student_success/supervisor"),
    },
    "_bentoml_sdk": {"student_success/bento"},
    "sqlalchemy": {
        *(
            f"student_success/{room}"
            for room in ("database", "locks", "committer", "history", "wal")
        ),
        *(
            f"student_success/{room}"
            for room in ("deployments", "erasure", "outcomes", "observed", "jobs", "monitor", "wal")
        ),
        "student_success/migrations",
        # For MLflow's own errors, which may be SQLAlchemy's.
        "student_success/registry",
    },
    "alembic": {"student_success/database", "student_success/migrations"},
    "sklearn": {"training", "grade_models"},
    "pandas": {
        *("training", "gradio_ui", "grade_models"),
        # For the example that goes with a candidate.
        "student_success/registry",
    },
    "scipy": {"training", "grade_models", "student_success/comparison"},
    "gradio": {"gradio_ui"},
    "pyarrow": {"student_success/bulk"},
    "tqdm": {"student_success/bulk"},
    "distributed": {"student_success/bulk", "training"},
    "dask": set(),
    "training": {"training"},
    "gradio_ui": {"gradio_ui"},
    "service": set(),
    "pydantic_settings": {"student_success/settings"},
}
# The web interface is a client of the HTTP API: it shares the facts with it, and nothing else.
INTERFACE_MAY_IMPORT = {"cells", "errors", "settings", "students"}
READ_THE_ENVIRONMENT = {
    "student_success/settings",
    # What a parent tells its child, and the old names to warn of.
    "student_success/children",
    "student_success/__main__",
}


@cache
def sources() -> dict[str, ast.Module]:
    """Return every module of the program by its path without the ending."""
    found = [ROOT / "service.py", *ROOT.glob("grade_models.py")]
    for package in ("student_success", "training", "gradio_ui"):
        found += (ROOT / package).rglob("*.py")
    return {
        path.relative_to(ROOT).with_suffix("").as_posix(): ast.parse(path.read_text("utf-8"))
        for path in found
    }


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names a module imports, in functions too, but not for its types alone."""
    only_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(tree: ast.Module) -> set[str]:
    found = {name.split(".")[1] for name in imported(tree) if name.startswith("student_success.")}
    return found & {path.split("/")[1] for path in sources() if path.startswith("student_success/")}


@cache
def rooms() -> dict[str, set[str]]:
    """Return what each room of `student_success` imports of the others."""
    found: dict[str, set[str]] = {}
    for path, tree in sources().items():
        if path.startswith("student_success/") and path != "student_success/__init__":
            room = path.split("/")[1]
            # A room of several files is a folder; what they import of each other is theirs.
            if room not in NO_ROOMS:
                found.setdefault(room, set()).update(rooms_imported(tree) - {room})
    return found


def test_every_room_has_a_floor() -> None:
    assert set(rooms()) <= set(FLOOR_OF), "choose a floor for the new room"


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_imports_go_down(room: str) -> None:
    for other in rooms().get(room, set()) & set(FLOOR_OF):
        assert FLOOR_OF[other] <= FLOOR_OF[room], f"{room} reaches up to {other}"


def test_imports_form_no_circle() -> None:
    graph = rooms()

    def visit(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, " → ".join((*way, room))
        for other in graph[room]:
            visit(other, (*way, room))

    for room in graph:
        visit(room, ())


@pytest.mark.parametrize("library", sorted(WALLS))
def test_library_stays_behind_its_wall(library: str) -> None:
    importers = {
        path
        for path, tree in sources().items()
        if any(name.split(".")[0] == library for name in imported(tree))
    }
    outside = {
        path
        for path in importers
        if not any(path == room or path.startswith(f"{room}/") for room in WALLS[library])
    }
    assert not outside


def test_interface_shares_only_facts_with_the_api() -> None:
    for path, tree in sources().items():
        if path.startswith("gradio_ui/"):
            assert rooms_imported(tree) <= INTERFACE_MAY_IMPORT, path


def test_training_does_not_reach_into_the_server() -> None:
    for path, tree in sources().items():
        if path.startswith("training/"):
            reached = {room for room in rooms_imported(tree) if FLOOR_OF.get(room, 0) >= 4}
            assert not reached, path


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
import onnxruntime, prometheus_client, platformdirs, zlib, sqlite3, ctypes, uuid
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
        "settings": "student_success.settings" in sys.modules and [
            name for name, value in vars(sys.modules["student_success.settings"]).items()
            if type(value).__name__ == "Settings"
        ],
    }

before = state()
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(f"student_success.{name}")
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


def test_importing_a_room_does_nothing(tmp_path: Path) -> None:
    names = sorted(set(rooms()) - {"__main__"})
    told = json.loads(run(_WATCH_IMPORTS, *names, folder=tmp_path))
    assert told["done"] == []
    assert told["same"], told["after"]


_LIST_MODULES = """
import json, sys
import service
# Imported when the service is opened.
import student_success.application
from student_success.predictor import Predictor
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
    assert not {"training", "gradio", "gradio_ui", "pandera", "joblib", "requests"} & loaded
