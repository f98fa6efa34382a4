"""Settings: where they come from, what they refuse, and that no error shows a token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from student_success.core.configuration.names import REMOVED, RENAMED
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError

SECRET = "s3cret-token-that-nobody-may-see"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Return a function that reads settings from a given environment and `.env`, and only those."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for old in RENAMED:
        monkeypatch.delenv(old, raising=False)
    monkeypatch.delenv("STUDENT_SUCCESS_FOLDER", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)

    def read(dotenv: str = "", **environment: str) -> Settings:
        (tmp_path / ".env").write_text(dotenv, "utf-8")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return read


def test_defaults_are_those_of_the_contract(settings: Callable[..., Settings]) -> None:
    found = settings()
    assert (found.host, found.port, found.ui_port, found.workers) == ("127.0.0.1", 8000, 7860, 1)
    assert found.model_name == "student_success_model"
    assert found.model_alias == "meilleur"
    assert found.mlflow_experiment_name == "student_success_training"
    assert found.admin_token is None
    assert found.api_token is None
    assert (found.gate_max_mae, found.gate_min_r2, found.alarm_recall) == (None, None, 0.9)
    assert (found.max_body_bytes, found.max_batch_body_bytes) == (1 << 20, 16 << 20)


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED.items()))
def test_old_name_is_understood(settings: Callable[..., Settings], old: str, new: str) -> None:
    assert getattr(settings(**{old: "9100"}), new.lower()) == 9100


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED.items()))
def test_new_name_wins_over_the_old(settings: Callable[..., Settings], old: str, new: str) -> None:
    assert getattr(settings(**{old: "9100", new: "9200"}), new.lower()) == 9200


def test_environment_wins_over_the_file(settings: Callable[..., Settings]) -> None:
    assert settings("PORT=9001\nUI_PORT=9002\n", PORT="9003").port == 9003
    assert settings("PORT=9001\nUI_PORT=9002\n", PORT="9003").ui_port == 9002


@pytest.mark.parametrize(
    ("dotenv", "environment", "folder"),
    [
        ("", {}, "xdg/student-success"),
        ("STATE_DIR=named\n", {}, "named"),
        ("STATE_DIR=named\n", {"STATE_DIR": "given"}, "given"),
    ],
    ids=["default", "file", "environment"],
)
def test_env_file_of_the_state_folder_is_read_after_that_of_the_current_folder(
    settings: Callable[..., Settings],
    tmp_path: Path,
    dotenv: str,
    environment: dict[str, str],
    folder: str,
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / ".env").write_text("PORT=9001\nUI_PORT=9002\nADMIN_TOKEN=a\n")
    found = settings(f"{dotenv}PORT=9003\nADMIN_TOKEN=  # not yet\n", **environment)
    assert found.state_dir == tmp_path / folder
    assert (found.port, found.ui_port) == (9003, 9002)
    assert found.admin_token is not None


def test_child_process_in_another_folder_reads_the_same_settings(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settings(
        "PORT=9003\nDATA_PATH=pupils.csv\nSTATE_DIR=state\nSEED_MODEL_PATH=model\n"
        "DATABASE_URL=sqlite:///history.db\nMLFLOW_TRACKING_URI=sqlite:///runs.db\n"
    )
    assert before.data_path == tmp_path / "pupils.csv"
    assert before.seed_model_path == tmp_path / "model"
    assert before.database == f"sqlite:///{tmp_path}/history.db"
    assert before.tracking_uri == f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("STUDENT_SUCCESS_FOLDER", str(tmp_path))
    monkeypatch.chdir("/")
    after = Settings()
    assert after == before
    assert (after.database, after.tracking_uri) == (before.database, before.tracking_uri)


@pytest.mark.parametrize("url", ["sqlite:////x/y.db", "sqlite:///:memory:", "postgresql://h/d"])
def test_url_without_a_relative_path_is_left_as_it_is(
    settings: Callable[..., Settings], url: str
) -> None:
    assert settings(DATABASE_URL=url).database == url


def test_no_env_file_is_read_when_the_caller_says_so(
    settings: Callable[..., Settings],
) -> None:
    settings("PORT=9003\n")
    assert Settings(_env_file=None).port == 8000  # type: ignore[call-arg]


def test_old_name_in_the_environment_wins_over_the_file(
    settings: Callable[..., Settings],
) -> None:
    assert settings("PORT=9001\n", FASTAPI_PORT="9003").port == 9003


@pytest.mark.parametrize("name", ["a?b", "a%20b"])
def test_state_folder_that_a_url_would_cut_is_refused(
    settings: Callable[..., Settings], tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValidationError, match="must not contain"):
        settings(STATE_DIR=str(tmp_path / name))


def test_original_env_file_is_read_without_complaint(settings: Callable[..., Settings]) -> None:
    found = settings(
        "FASTAPI_PORT=8000\nSTREAMLIT_PORT=8501\nMLFLOW_PORT=5000\nMODEL_NAME=mine\n"
        "MODEL_ALIAS=prod\nMLFLOW_EXPERIMENT_NAME=e\nDATA_PATH=/x/final.csv\nSOMETHING_ELSE=1\n"
    )
    assert (found.ui_port, found.model_name, found.model_alias) == (8501, "mine", "prod")
    assert found.data_path == Path("/x/final.csv")


def test_empty_value_stands_for_the_default(settings: Callable[..., Settings]) -> None:
    found = settings("ADMIN_TOKEN=\nDATABASE_URL=\n", API_TOKEN="", PORT="")
    assert found.admin_token is None
    assert found.api_token is None
    assert found.port == 8000
    assert found.database.startswith("sqlite:///")


@pytest.mark.parametrize("name", ["best_model_rf_seed.joblib", "m.PKL", "x.pickle"])
def test_pickle_as_seed_is_refused_in_plain_words(
    settings: Callable[..., Settings], name: str
) -> None:
    with pytest.raises(ValidationError, match="pickle") as caught:
        settings(SEED_MODEL_PATH=f"models/{name}")
    assert "student-success seed" in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_token(settings: Callable[..., Settings], host: str) -> None:
    settings().check_exposure(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_other_address_needs_a_token_or_consent(
    settings: Callable[..., Settings], host: str
) -> None:
    with pytest.raises(ConfigurationError, match="API_TOKEN"):
        settings().check_exposure(host)
    settings(API_TOKEN="t").check_exposure(host)


def test_consent_opens_every_address(settings: Callable[..., Settings]) -> None:
    settings(ALLOW_ANONYMOUS="true").check_exposure("0.0.0.0")


def test_admin_token_alone_does_not_open_every_address(
    settings: Callable[..., Settings],
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(ADMIN_TOKEN=SECRET).check_exposure("0.0.0.0")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "environment",
    [
        {"ADMIN_TOKEN": SECRET, "API_TOKEN": SECRET},
        {"ADMIN_TOKEN": SECRET, "PORT": "nonsense"},
        {"API_TOKEN": SECRET, "ALARM_RECALL": "2"},
        {"PORT": SECRET},
        {"DATABASE_URL": f"postgresql://u:{SECRET}@h/d", "WORKERS": "-1"},
    ],
)
def test_no_error_shows_a_secret(
    settings: Callable[..., Settings], environment: dict[str, str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**environment)
    shown = str(caught.value) + str(caught.value.errors(include_input=False))
    assert SECRET not in shown


def test_no_representation_shows_a_token(settings: Callable[..., Settings]) -> None:
    found = settings(ADMIN_TOKEN=SECRET, API_TOKEN=SECRET + "2")
    assert SECRET not in repr(found) + str(found) + str(found.model_dump())


def test_settings_cannot_change_while_running(settings: Callable[..., Settings]) -> None:
    with pytest.raises(ValidationError):
        settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("ALARM_RECALL", "1"),
        ("GATE_SIGNIFICANCE", "0"),
        ("HISTORY_RETENTION_DAYS", "0"),
        ("MAX_BODY_BYTES", "10"),
        ("HISTORY_SYNCHRONOUS", "OFF"),
        ("GATE_MAX_MAE", "nan"),
        ("TRAIN_BUDGET_SECONDS", "inf"),
    ],
)
def test_value_out_of_bounds_is_refused(
    settings: Callable[..., Settings], name: str, value: str
) -> None:
    with pytest.raises(ValidationError):
        settings(**{name: value})


def test_state_directory_is_absolute_and_holds_everything(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    found = settings(STATE_DIR="here")
    assert found.state_dir == tmp_path / "here"
    assert found.database == f"sqlite:///{tmp_path}/here/student_success.db"
    assert found.tracking_uri == f"sqlite:///{tmp_path}/here/mlflow.db"
    assert found.registry_is_local
    assert not settings(MLFLOW_TRACKING_URI="http://mlflow:5000").registry_is_local


@pytest.mark.parametrize("name", REMOVED)
def test_removed_name_has_no_effect(settings: Callable[..., Settings], name: str) -> None:
    before = settings()
    assert settings(**{name: "600"}) == before


def test_every_setting_is_described() -> None:
    undescribed: list[Any] = [
        name for name, field in Settings.model_fields.items() if not field.description
    ]
    assert not undescribed


@pytest.mark.parametrize(
    ("address", "allowed", "refused"),
    [
        (
            "127.0.0.1",
            ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "127.9.9.9"],
            [
                "evil.example",
                "localhost.evil.example",
                "api",
                "192.168.1.7",
                "a@localhost",
                "",
                "[",
            ],
        ),
        (
            "0.0.0.0",
            ["localhost:8000", "192.168.1.7:8000", "[fd00::7]", "api:8000"],
            ["evil.example", "evil.example:8000", "1.2.3.4.evil.example", "user:pw@api"],
        ),
    ],
)
def test_allowed_hosts_are_by_default_names_that_no_page_can_have(
    settings: Callable[..., Settings], address: str, allowed: list[str], refused: list[str]
) -> None:
    found = settings()
    assert [host for host in allowed if not found.allows_host(host, address=address)] == []
    assert [host for host in refused if found.allows_host(host, address=address)] == []


def test_allowed_hosts_adds_the_names_listed(settings: Callable[..., Settings]) -> None:
    found = settings(ALLOWED_HOSTS="Grades.School.example, other.example")
    for host in ("grades.school.example", "GRADES.school.example.:443", "other.example:80"):
        assert found.allows_host(host, address="127.0.0.1")
    assert not found.allows_host("school.example", address="127.0.0.1")
    assert settings(ALLOWED_HOSTS="*").allows_host("evil.example", address="127.0.0.1")


CONTENT = 'export PORT=9001 # a comment\r\nMODEL_NAME="grades"\r\n# \u00e9cole\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("place", [".env", "state/.env"])
def test_env_file_of_a_windows_editor_is_read(
    settings: Callable[..., Settings], tmp_path: Path, encoding: str, place: str
) -> None:
    settings(STATE_DIR=str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    (tmp_path / place).write_bytes(CONTENT.encode(encoding))
    found = Settings()
    assert (found.port, found.model_name) == (9001, "grades")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("place", [".env", "state/.env"])
def test_env_file_in_another_encoding_is_refused_in_words(
    settings: Callable[..., Settings], tmp_path: Path, encoding: str, place: str
) -> None:
    settings(STATE_DIR=str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    # ASCII as UTF-16 without a byte order mark is valid UTF-8, with NUL characters.
    content = CONTENT if encoding == "latin-1" else "API_TOKEN=secret\r\n"
    (tmp_path / place).write_bytes(content.encode(encoding))
    with pytest.raises(ConfigurationError, match="is not text in UTF-8"):
        Settings()


@pytest.mark.parametrize(
    "line", ["API_TOKEN: s3cret", "API_TOKEN s3cret x", 'API_TOKEN="s3cret', "set API_TOKEN=s3cret"]
)
def test_line_of_an_env_file_that_is_no_setting_is_refused_without_its_value(
    settings: Callable[..., Settings], tmp_path: Path, line: str
) -> None:
    """Without the token that it was meant to set, the service would be open."""
    settings()
    (tmp_path / ".env").write_text(f"# a comment\n\nLOG_LEVEL=INFO\n{line}\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read from line 4 on") as refused:
        Settings()
    assert "s3cret" not in refused.value.message


def test_virtual_environment_called_env_is_no_file_of_settings(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings()
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    (tmp_path / ".env" / "pyvenv.cfg").touch()
    assert Settings().port == 8000


def test_budget_above_the_time_limit_is_refused(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError, match="TRAIN_BUDGET_SECONDS is 61; it must be at most"):
        settings(TRAIN_BUDGET_SECONDS="61", TRAIN_TIMEOUT_SECONDS="60")
    monkeypatch.delenv("TRAIN_BUDGET_SECONDS")
    assert settings(TRAIN_TIMEOUT_SECONDS="20").train_timeout_seconds == 20


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "https://portal.example.org/",
        "https://portal.example.org/page",
        "https://portal.example.org, *",
        "https://Portal.example.org",
        "https://portal.example.org:443",
        "http://portal.example.org:80",
        "portal.example.org",
        "null",
        "https://a.example.org https://b.example.org",
    ],
)
def test_origin_that_no_browser_sends_or_that_opens_every_page_is_refused(
    settings: Callable[..., Settings], origins: str
) -> None:
    with pytest.raises(ValidationError, match="origins as browsers send them"):
        settings(CORS_ORIGINS=origins)


def test_origins_as_browsers_send_them_are_accepted(settings: Callable[..., Settings]) -> None:
    origins = "https://portal.example.org, http://localhost:5173,http://[::1]:8080"
    assert settings(CORS_ORIGINS=origins).cors_origins == origins
