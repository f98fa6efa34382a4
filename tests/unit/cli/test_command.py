"""`python -m student_success`: what an operator sees, and what is refused before it starts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from student_success import __main__ as command
from student_success.core.settings import RENAMED, Settings
from student_success.server import supervisor
from student_success.storage.deployments import Deployments
from student_success.storage.engine import connect, deployments, migrate, writing

SECRET = "s3cret-token-that-nobody-may-see"
Started = list[dict[str, Any]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Started]:
    """Run commands in a folder and state of their own; return what was to be served."""
    for name in [*(name.upper() for name in Settings.model_fields), *RENAMED, "BENTOML_HOME"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BENTOML_DO_NOT_TRACK", "True")
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("UI_ENABLED", "false")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    became: Started = []
    monkeypatch.setattr(supervisor, "supervise", lambda _, **options: became.append(options))
    yield became
    os.environ.pop("BENTOML_HOME", None)


def test_serve_writes_a_token_nobody_else_can_read(
    started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["serve"])
    env = tmp_path / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    token = Settings().admin_token
    assert token is not None
    assert len(token.get_secret_value()) >= 32
    told = capsys.readouterr().out
    assert token.get_secret_value() not in told
    assert str(env) in told
    assert "http://127.0.0.1:8000/docs" in told
    [options] = started
    assert options["home"] == tmp_path / "state" / "bentoml"


def test_second_start_keeps_the_token(started: Started, tmp_path: Path) -> None:
    command.main(["serve"])
    before = (tmp_path / ".env").read_text()
    command.main(["serve"])
    assert (tmp_path / ".env").read_text() == before
    assert len(started) == 2


@pytest.mark.parametrize("content", ["PORT=9001", "PORT=9001\n", "# only a comment", ""])
def test_token_is_added_to_what_is_there(started: Started, tmp_path: Path, content: str) -> None:
    (tmp_path / ".env").write_text(content)
    (tmp_path / ".env").chmod(0o644)
    command.main(["serve"])
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines[:-1] == content.splitlines()
    assert re.fullmatch(r"ADMIN_TOKEN=\S{32,}", lines[-1])
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_empty_token_is_replaced(started: Started, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ADMIN_TOKEN=\n")
    command.main(["serve"])
    assert Settings().admin_token is not None


def test_given_token_is_left_alone(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", SECRET)
    command.main(["serve"])
    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED.items()))
@pytest.mark.parametrize("where", ["environment", "file"])
def test_old_name_works_with_a_word_about_the_new(
    started: Started,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    where: str,
) -> None:
    if where == "file":
        (tmp_path / ".env").write_text(f"{old}=9100\n")
    else:
        monkeypatch.setenv(old, "9100")
    command.main(["serve"])
    told = capsys.readouterr().err
    assert old in told
    assert re.search(rf"\b{new}\b", told)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SEED_MODEL_PATH": "models/best_model_rf_seed.joblib"}, "pickle"),
        ({"PORT": "none"}, "PORT"),
        ({"HOST": "0.0.0.0"}, "API_TOKEN"),
        ({"ADMIN_TOKEN": SECRET, "API_TOKEN": SECRET}, "must differ"),
        ({"ADMIN_TOKEN": SECRET, "WORKERS": "many"}, "WORKERS"),
    ],
)
def test_bad_setting_is_named_in_plain_words_and_nothing_starts(
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert command.main(["serve"]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert "Traceback" not in told.err
    assert SECRET not in told.err + told.out
    assert started == []


def test_state_goes_to_its_directory_and_nobody_is_called(started: Started, tmp_path: Path) -> None:
    command.main(["serve"])
    home = Path(os.environ["BENTOML_HOME"])
    assert home == tmp_path / "state" / "bentoml"
    assert home.stat().st_mode & 0o077 == 0
    assert os.environ["BENTOML_DO_NOT_TRACK"] == "True"


def test_migrate_makes_the_tables(started: Started, tmp_path: Path) -> None:
    assert command.main(["migrate"]) == 0
    assert (tmp_path / "state" / "student_success.db").is_file()


def test_database_out_of_reach_is_told_in_plain_words(
    started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/none")
    assert command.main(["migrate"]) == 2
    told = capsys.readouterr().err
    assert "database" in told
    assert SECRET not in told


@pytest.fixture
def tampered(started: Started) -> Callable[[], None]:
    settings = Settings()
    migrate(settings.database, state_dir=settings.state_dir)
    engine = connect(settings.database)
    Deployments(engine).record(
        "promote", to_version="1", fingerprint="f", actor="a", reason=None, evidence={}
    )
    engine.dispose()

    def tamper() -> None:
        engine = connect(settings.database)
        with writing(engine) as connection:
            connection.execute(deployments.update().values(actor="somebody else"))
        engine.dispose()

    return tamper


def test_verify_tells_a_whole_record_from_a_changed_one(
    tampered: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["verify"]) == 0
    assert "whole" in capsys.readouterr().out
    tampered()
    assert command.main(["verify"]) == 1
    assert "row 1 was changed" in capsys.readouterr().out


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["conquer"])
    assert caught.value.code == 2
    assert "conquer" in capsys.readouterr().err
