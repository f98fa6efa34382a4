"""`.env.example` tells all there is to set, and tells it as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from student_success.cli.dotenv import STACK_SECRETS
from student_success.core.configuration.names import INTERNAL, RENAMED
from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT

EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
LINE = re.compile(r"^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)
NAMES = dict(LINE.findall(EXAMPLE))
SETTINGS = sorted(set(Settings.model_fields) - set(INTERNAL))
FILES = ("docker-compose.yml", "docker-compose.scale.yml")
COMPOSE = "".join((ROOT / name).read_text("utf-8") for name in FILES)
# ${NAME}, ${NAME:-default}, ${NAME:?refusal}
READ = dict(re.findall(r"\$\{([A-Z0-9_]+)(?::-([^${}]*)(?:\$\{[^}]*\})?|:\?[^}]*)?\}", COMPOSE))
ORIGINAL = (
    *("GRAFANA_ADMIN_USER", "GRAFANA_ADMIN_PASSWORD", "FASTAPI_PORT", "STREAMLIT_PORT"),
    *("MLFLOW_PORT", "MODEL_NAME", "MODEL_ALIAS", "MLFLOW_EXPERIMENT_NAME", "DATA_PATH"),
    *("SEED_MODEL_PATH", "MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"),
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
)
# What the stack decides itself, in `docker-compose.yml` or in an image.
FIXED = {
    *("host", "state_dir", "seed_model_path", "workers", "log_format", "ui_enabled", "ui_host"),
    *("ui_url", "ui_api_url", "api_public_url", "grafana_url", "mlflow_url"),
}


def words(text: str) -> str:
    return re.sub(r"\s*\n# ", " ", text)


def test_every_setting_is_there_and_nothing_else() -> None:
    stack = set(READ) | set(RENAMED) | set(STACK_SECRETS)
    assert set(NAMES) == {name.upper() for name in SETTINGS} | stack


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_described_with_its_default(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description is not None
    if name not in ("admin_token", "api_token"):
        assert field.description in words(EXAMPLE)
    if isinstance(field.default, str | int | float | bool):
        shown = str(field.default)
        assert NAMES[name.upper()] == (shown.lower() if isinstance(field.default, bool) else shown)


@pytest.mark.parametrize("name", ORIGINAL)
def test_name_of_the_replaced_application_is_there(name: str) -> None:
    assert name in NAMES


@pytest.mark.parametrize("name", sorted(set(READ) - {n.upper() for n in SETTINGS}))
def test_default_of_the_stack_is_the_one_shown(name: str) -> None:
    if name not in RENAMED:
        assert NAMES[name] == READ[name]


def test_no_secret_has_a_value() -> None:
    for name in (*STACK_SECRETS, "API_TOKEN"):
        assert NAMES[name] == ""
        assert READ[name] == ""


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - FIXED))
def test_setting_reaches_a_container(name: str) -> None:
    assert name.upper() in READ


@pytest.mark.parametrize("name", ["UI_URL", "API_PUBLIC_URL", "GRAFANA_URL", "MLFLOW_URL"])
def test_link_of_the_stack_can_be_set(name: str) -> None:
    assert f"{name}: ${{{name}:-http://localhost:" in COMPOSE


def test_api_of_the_stack_knows_the_path_below_which_the_proxy_shows_it() -> None:
    assert "ROOT_PATH: ${ROOT_PATH:-}/api\n" in COMPOSE
    assert "path {$ROOT_PATH}/api " in (ROOT / "docker" / "Caddyfile").read_text("utf-8")


def test_old_name_is_read_where_the_new_one_is() -> None:
    for old, new in RENAMED.items():
        assert re.search(rf"\$\{{{new}:-\$\{{{old}:-\d+\}}\}}", COMPOSE)


def test_env_is_ignored_by_git_and_by_every_build(tmp_path: Path) -> None:
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert (ROOT / ".dockerignore").read_text("utf-8").splitlines()[1] == "*"
    assert ".env" not in (ROOT / "bentofile.yaml").read_text("utf-8")
