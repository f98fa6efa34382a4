"""The commands on versions and deployments: what they run, print and return."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from student_success.cli import model_commands
from student_success.cli.main import main
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    BusyError,
    PromotionRefusedError,
    RegistryUnavailableError,
    StudentSuccessError,
)
from student_success.storage.deployments import Deployments
from student_success.storage.engine import connect
from student_success.storage.locks import Operation, exclusive

CONDITIONS = [
    {"name": "mae", "passed": True, "value": 0.8, "limit": 1.0, "detail": "at most the limit"},
    {"name": "fairness.sex", "passed": True, "value": 0.1, "limit": 0.5, "detail": "gap"},
]
PROMOTED = {
    "version": 3,
    "previous_version": "2",
    "evidence": {"passed": True, "conditions": CONDITIONS},
}
VERSION = {
    "version": 3,
    "created_at": "2026-01-02T03:04:05Z",
    "best_model": "boosting",
    "metrics": {"G1_G2/mae": 0.81234, "G1_G2/r2": 0.9},
    "dataset": {"name": "[final].csv"},
    "alias": False,
}

Children = Callable[[dict[str, Any] | StudentSuccessError], list[tuple[str, ...]]]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Children:
    """Return a function that sets the answer of child processes, and returns their arguments."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    started: list[tuple[str, ...]] = []

    def answer(result: dict[str, Any] | StudentSuccessError) -> list[tuple[str, ...]]:
        async def run(*arguments: str, **options: Any) -> dict[str, Any]:
            started.append(arguments)
            if isinstance(result, StudentSuccessError):
                raise result
            if options.get("on_progress") is not None:
                options["on_progress"]({"step": "fetched"})
            return result

        monkeypatch.setattr("student_success.core.subprocesses.run", run)
        return started

    return answer


def test_promote_runs_the_child_with_the_request(
    children: Children, capsys: pytest.CaptureFixture[str]
) -> None:
    started = children(PROMOTED)
    command = ["promote", "3", "--reason", "better", "--max-mae", "0.9", "--allow-synthetic"]
    assert main(command) == 0
    [arguments] = started
    assert arguments[:5] == ("-m", "student_success", "child", "promote", "--actor=cli")
    request = json.loads(arguments[5].removeprefix("--request="))
    assert (request["version"], request["reason"], request["max_mae"]) == (3, "better", 0.9)
    assert request["allow_synthetic"] is True
    output = capsys.readouterr().out
    assert "Version 3 is served now; before it, 2." in output
    assert "at most the limit" in output
    assert "Conditions on fairness that passed: 1" in output


def test_promote_prints_the_result_as_json(
    children: Children, capsys: pytest.CaptureFixture[str]
) -> None:
    children(PROMOTED)
    assert main(["promote", "3", "--reason", "better", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == PROMOTED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PromotionRefusedError("Version 3 was refused.", details=CONDITIONS), 3),
        (BusyError("A training runs."), 3),
        (RegistryUnavailableError("MLflow does not answer."), 4),
    ],
)
def test_error_of_a_child_becomes_an_exit_code_and_a_message(
    children: Children,
    capsys: pytest.CaptureFixture[str],
    error: StudentSuccessError,
    code: int,
) -> None:
    children(error)
    assert main(["promote", "3", "--reason", "better"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"Error: {error.message}\n")
    assert ("name mae" in shown.err) == bool(error.details)
    assert main(["promote", "3", "--reason", "better", "--json"]) == code
    assert json.loads(capsys.readouterr().err) == error.to_json()


@pytest.mark.parametrize(
    "arguments",
    [
        ["promote", "3"],
        ["promote", "0", "--reason", "r"],
        ["promote", "three", "--reason", "r"],
        ["promote", "3", "--reason", ""],
        ["promote", "3", "--reason", "r", "--max-mae", "-1"],
        ["promote", "3", "--reason", "r", "--max-mae", "nan"],
        ["rollback"],
        ["deployments", "--limit", "0"],
    ],
)
def test_wrong_argument_is_refused_and_nothing_is_started(
    children: Children, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    started = children(PROMOTED)
    assert main(arguments) == 2
    assert started == []
    assert "Traceback" not in capsys.readouterr().err


def test_versions_shows_figures_and_what_is_served(
    children: Children, capsys: pytest.CaptureFixture[str]
) -> None:
    children({"versions": [VERSION]})
    assert main(["versions"]) == 0
    output = capsys.readouterr().out
    assert "0.812" in output
    assert "[final].csv" in output
    assert main(["versions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{**VERSION, "served": False}]


def test_evidence_says_what_the_gate_would_decide(
    children: Children, capsys: pytest.CaptureFixture[str]
) -> None:
    started = children({"passed": False, "mae": 1.2, "r2": 0.7, "conditions": CONDITIONS})
    assert main(["evidence", "3"]) == 0
    assert started[0][2:] == ("child", "judge", "--version=3")
    assert "Version 3 would be refused: MAE 1.200, R² 0.700." in capsys.readouterr().out


def test_rollback_goes_back_to_the_seed_and_works_without_the_registry(
    children: Children, capsys: pytest.CaptureFixture[str]
) -> None:
    children(RegistryUnavailableError("away"))
    assert main(["migrate"]) == 0
    settings = Settings()
    engine = connect(settings.database)
    Deployments(engine).record(
        "promote", to_version="1", fingerprint="f", actor="a", reason=None, evidence={}
    )
    engine.dispose()
    capsys.readouterr()
    assert main(["rollback", "--reason", "too many alarms"]) == 0
    assert "Version seed is served again instead of 1." in capsys.readouterr().out
    assert main(["deployments", "--json"]) == 0
    [newest, _] = json.loads(capsys.readouterr().out)
    assert (newest["action"], newest["actor"]) == ("rollback", model_commands.ACTOR)
    assert (newest["to_version"], newest["reason"]) == ("seed", "too many alarms")
    assert main(["deployments", "--limit", "1"]) == 0
    assert "too many alarms" in capsys.readouterr().out
    assert main(["verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"problems": []}


def test_rollback_during_another_operation_is_refused(
    children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    children({})
    assert main(["migrate"]) == 0
    settings = Settings()
    engine = connect(settings.database)
    with exclusive(Operation.DEPLOYMENT, engine=engine, state_dir=settings.state_dir):
        assert main(["rollback", "--reason", "r"]) == 3
    engine.dispose()
    assert "Traceback" not in capsys.readouterr().err


def test_erase_asks_before_it_erases(
    children: Children, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    children({})
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["erase", "s1"]) == 1
    assert "erased" not in capsys.readouterr().out
    assert main(["erase", "s1", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"session_id": "s1", "erased": 0}


def test_unexpected_failure_is_told_without_a_traceback(
    children: Children, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("postgresql://user:secret@host")

    children({})
    monkeypatch.setattr(model_commands, "run_command", fail)
    assert main(["versions"]) == 1
    shown = capsys.readouterr().err
    assert "RuntimeError" in shown
    assert "secret" not in shown
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    with pytest.raises(RuntimeError):
        main(["versions"])
