"""The commands that start servers: what an operator sees, and what is refused before a start."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from student_success.cli import context, dotenv
from student_success.cli.main import main
from student_success.core.configuration.names import REMOVED, RENAMED
from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT
from student_success.server import supervisor
from student_success.storage.deployments import Deployments
from student_success.storage.engine import connect, writing
from student_success.storage.migrate import migrate
from student_success.storage.tables import deployments

SECRET = "s3cret-token-that-nobody-may-see"
Started = list[dict[str, Any]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Started]:
    """Run commands in a folder and state of their own; return what was to be served."""
    for name in [*map(str.upper, Settings.model_fields), *RENAMED, *REMOVED, "BENTOML_HOME"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BENTOML_DO_NOT_TRACK", "True")
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("UI_ENABLED", "false")
    # Started in a checkout.
    monkeypatch.setenv("STUDENT_SUCCESS_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(context, "ROOT", tmp_path)
    monkeypatch.setattr(context, "IS_CHECKOUT", True)
    became: Started = []
    monkeypatch.setattr(supervisor, "supervise", lambda _, **options: became.append(options))
    yield became
    os.environ.pop("BENTOML_HOME", None)


def test_serve_writes_a_token_nobody_else_can_read(
    started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["serve"])
    env = tmp_path / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    token = Settings().admin_token
    assert token is not None
    assert len(token.get_secret_value()) >= 32
    told = capsys.readouterr().out
    assert token.get_secret_value() not in told
    assert str(env) in told
    assert "http://127.0.0.1:8000/docs" in told
    assert len(started) == 1
    assert os.environ["BENTOML_HOME"] == str(tmp_path / "state" / "bentoml")


def test_second_start_keeps_the_token(started: Started, tmp_path: Path) -> None:
    main(["serve"])
    before = (tmp_path / ".env").read_text()
    main(["serve"])
    assert (tmp_path / ".env").read_text() == before
    assert len(started) == 2


@pytest.mark.parametrize("content", ["PORT=9001", "PORT=9001\n", "# only a comment", ""])
def test_token_is_added_to_what_is_there(started: Started, tmp_path: Path, content: str) -> None:
    (tmp_path / ".env").write_text(content)
    (tmp_path / ".env").chmod(0o644)
    main(["serve"])
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines[:-1] == content.splitlines()
    assert re.fullmatch(r"ADMIN_TOKEN=\S{32,}", lines[-1])
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_empty_token_is_replaced(started: Started, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ADMIN_TOKEN=\n")
    main(["serve"])
    assert Settings().admin_token is not None


def test_given_token_is_left_alone(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", SECRET)
    main(["serve"])
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
    main(["serve"])
    told = capsys.readouterr().err
    assert old in told
    assert re.search(rf"\b{new}\b", told)
    assert len(started) == 1


@pytest.mark.parametrize("name", REMOVED)
def test_removed_setting_causes_a_warning(
    started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / ".env").write_text(f"{name}=1\n")
    assert main(["serve"]) == 0
    assert f"{name} is no longer a setting" in capsys.readouterr().err
    assert len(started) == 1


@pytest.mark.parametrize(
    ("name", "setting"),
    [("API_TOKN", "API_TOKEN"), ("WORKER", "WORKERS"), ("mlflow_tracking_url", "TRACKING_URI")],
)
@pytest.mark.parametrize("folder", ["", "state"])
@pytest.mark.parametrize("value", ["", SECRET])
def test_serve_names_a_misspelt_setting_and_the_closest_one(
    started: Started,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    setting: str,
    folder: str,
    value: str,
) -> None:
    path = tmp_path / folder / ".env"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{name}={value}\n")
    assert main(["serve"]) == 0
    warning = capsys.readouterr().err
    assert f"{name} in {path} is not a setting and has no effect" in warning
    assert setting in warning
    assert SECRET not in warning
    assert len(started) == 1


def test_misspelt_token_is_named_when_the_start_is_refused_without_it(
    started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text(f"HOST=0.0.0.0\nAPI_TOKN={SECRET}\n")
    assert main(["serve"]) != 0
    assert "use API_TOKEN" in capsys.readouterr().err
    assert started == []


def test_serve_does_not_warn_of_names_of_other_programs(
    started: Started,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    stack = set(re.findall(r"\$\{([A-Z0-9_]+)", compose)) - {*RENAMED}
    own = {name.upper() for name in Settings.model_fields}
    others = {"API_KEY", "EXPORT", "GITHUB_TOKEN", "MLFLOW_TRACKING_USERNAME", "POSTGRES_USER"}
    assert stack - own
    (tmp_path / ".env").write_text("".join(f"{name}=1\n" for name in others | (stack - own)))
    # A variable of the environment may belong to any program.
    monkeypatch.setenv("API_TOKN", "1")
    assert main(["serve"]) == 0
    assert capsys.readouterr().err == ""


def test_serve_of_an_installed_package_writes_to_the_state_folder_alone(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "IS_CHECKOUT", False)
    assert main(["serve"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    env = tmp_path / "state" / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    before = env.read_text("utf-8")
    assert Settings().admin_token is not None
    assert main(["serve"]) == 0
    assert env.read_text("utf-8") == before


def test_serve_in_another_folder_than_the_checkout_writes_to_the_state_folder(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "ROOT", tmp_path / "checkout")
    assert main(["serve"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert dotenv.names(tmp_path / "state" / ".env") == {"ADMIN_TOKEN"}


def test_serve_without_a_writable_folder_starts_without_a_token(
    started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(*_: object) -> list[str]:
        raise OSError("read-only file system")

    monkeypatch.setattr(dotenv, "add_secrets", read_only)
    assert main(["serve"]) == 0
    assert "promotion, rollback and erasure are closed" in capsys.readouterr().out
    assert len(started) == 1


def test_secrets_are_written_beside_the_code_and_not_shown(
    started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["secrets"]) == 0
    assert dotenv.names(tmp_path / ".env") == set(dotenv.STACK_SECRETS)
    told = capsys.readouterr().out
    assert str(tmp_path / ".env") in told
    for line in (tmp_path / ".env").read_text("utf-8").splitlines():
        assert line.split("=", 1)[1] not in told


def test_configuration_prints_the_document(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["configuration"]) == 0
    assert "| `ALARM_RECALL` | `0.9` |" in capsys.readouterr().out


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
    assert main(["serve"]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert "Traceback" not in told.err
    assert SECRET not in told.err + told.out
    assert started == []


def test_state_goes_to_its_directory_and_nobody_is_called(started: Started, tmp_path: Path) -> None:
    main(["serve"])
    home = Path(os.environ["BENTOML_HOME"])
    assert home == tmp_path / "state" / "bentoml"
    assert home.stat().st_mode & 0o077 == 0
    assert os.environ["BENTOML_DO_NOT_TRACK"] == "True"


def test_migrate_makes_the_tables(started: Started, tmp_path: Path) -> None:
    assert main(["migrate"]) == 0
    assert (tmp_path / "state" / "student_success.db").is_file()


def test_database_out_of_reach_is_told_in_plain_words(
    started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/none")
    assert main(["migrate"]) == 4
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
    assert main(["verify"]) == 0
    assert "whole" in capsys.readouterr().out
    tampered()
    assert main(["verify"]) == 1
    assert "row 1 was changed" in capsys.readouterr().out


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conquer"]) == 2
    assert "conquer" in capsys.readouterr().err


@pytest.mark.usefixtures("started")
def test_mlflow_shows_where_the_server_is_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://user:{SECRET}@mlflow.example/path")
    assert main(["mlflow"]) == 0
    assert capsys.readouterr().out == "MLflow is at https://mlflow.example/path\n"
