"""Every setting, read once from the environment and `.env`; nobody else reads either.

The environment wins over `.env`. `Settings` is frozen: what the process started with is what it
runs with.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_state_path
from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from student_success.core.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
RENAMED = {
    "FASTAPI_PORT": "PORT",
    "STREAMLIT_PORT": "UI_PORT",
    "MLFLOW_PORT": "MLFLOW_UI_PORT",
}
"""Names of the replaced application's `.env` that still work, and the word to use now."""

_PICKLES = {".joblib", ".pkl", ".pickle"}


def _renamed(old: str) -> AliasChoices:
    return AliasChoices(RENAMED[old], old)


class Settings(BaseSettings):
    """What a person may set; each field is the environment variable of the same name."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # An infinite wait or limit is none.
        allow_inf_nan=False,
        # A setting may be a token: no error may show it.
        hide_input_in_errors=True,
    )

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(
        8000,
        ge=1,
        le=65535,
        validation_alias=_renamed("FASTAPI_PORT"),
        description="Port of the API.",
    )
    ui_port: int = Field(
        7860,
        ge=1,
        le=65535,
        validation_alias=_renamed("STREAMLIT_PORT"),
        description="Port of the web interface.",
    )
    mlflow_ui_port: int = Field(
        5000,
        ge=1,
        le=65535,
        validation_alias=_renamed("MLFLOW_PORT"),
        description="Port on which `make mlflow` opens MLflow's own interface.",
    )
    ui_url: str | None = Field(None, description="Where `GET /` sends a browser; `/docs` if empty.")
    ui_enabled: bool = Field(
        True, description="Whether `make serve` starts the web interface beside the API."
    )
    ui_host: str | None = Field(
        None, description="Address the web interface listens on; `HOST` if empty."
    )
    ui_api_url: str | None = Field(
        None, description="Where the web interface finds the API; `HOST` and `PORT` if empty."
    )
    ui_max_upload_mb: int = Field(
        5, ge=1, le=100, description="Largest class list the web interface reads, in megabytes."
    )
    api_public_url: str | None = Field(
        None, description="Where a reader's browser finds the API's own pages; no link if empty."
    )
    grafana_url: str | None = Field(
        None, description="Where a reader's browser finds Grafana; no link if empty."
    )
    mlflow_url: str | None = Field(
        None, description="Where a reader's browser finds MLflow; no link if empty."
    )
    workers: int = Field(1, ge=1, le=64, description="API worker processes.")
    drain_seconds: float = Field(
        1.0,
        ge=0,
        le=300,
        description="How long a server that is told to stop (SIGTERM) still takes new connections "
        "while `/readyz` says no; longer than a load balancer needs to notice.",
    )
    state_dir: Path = Field(
        default_factory=lambda: user_state_path("student-success"),
        description="Databases, registry, model store and logs; never inside the checkout.",
    )

    admin_token: SecretStr | None = Field(
        None, description="Opens training, promotion, rollback, erasure and all history."
    )
    api_token: SecretStr | None = Field(
        None, description="When set, predictions and session history ask for it."
    )
    allow_anonymous: bool = Field(
        False, description="Serve off loopback without an `API_TOKEN`, knowingly."
    )

    database_url: str | None = Field(
        None,
        # It may hold a password.
        repr=False,
        description="SQLAlchemy URL of history, jobs and deployments; SQLite in `STATE_DIR` "
        "if empty.",
    )
    history_synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL", description="SQLite durability of predictions: `FULL` also survives power loss."
    )
    answer_unlogged: bool = Field(
        False,
        description='Answer predictions that cannot be saved, marked `"unlogged": true`, instead '
        "of refusing them with 503; not those with an `Idempotency-Key`.",
    )
    control_synchronous: Literal["NORMAL", "FULL"] = Field(
        "FULL", description="SQLite durability of deployments and jobs."
    )
    history_retention_days: int | None = Field(
        None, ge=1, description="Predictions older than this are erased; kept for ever if empty."
    )

    mlflow_tracking_uri: str | None = Field(
        None,
        # It may hold a password.
        repr=False,
        description="MLflow server; SQLite and a folder in `STATE_DIR` if empty.",
    )
    model_name: str = Field("student_success_model", description="Registered model in MLflow.")
    model_alias: str = Field("meilleur", description="Alias that marks the promoted version.")
    mlflow_experiment_name: str = Field(
        "student_success_training", description="MLflow experiment of the training runs."
    )
    registry_timeout_seconds: float = Field(
        60.0, gt=0, description="Longest wait for MLflow while promoting."
    )
    alias_check_seconds: float = Field(
        30.0, gt=0, description="How often an alias moved by hand in MLflow is looked for."
    )
    follow_seconds: float = Field(
        0.5, gt=0, description="How often a worker looks for a newer deployment."
    )

    monitor_seconds: float = Field(
        60.0, gt=0, description="How often live error and drift are computed from the history."
    )
    monitor_rows: int = Field(
        10_000,
        ge=100,
        le=100_000,
        description="Newest predictions, and newest outcomes, that live error and drift are "
        "computed from.",
    )
    drift_minimum_count: int = Field(
        50, ge=10, description="Fewer pupils than this are not compared with the training data."
    )
    drift_minimum_distance: float = Field(
        0.1,
        ge=0,
        le=1,
        description="A smaller distance from the training data is no drift, however significant.",
    )

    data_path: Path | None = Field(
        None, description="CSV to train on; else `data/final.csv`, else `data/sample.csv`."
    )
    seed_model_path: Path = Field(
        ROOT / "student_success" / "seed",
        description="Folder of the seed model, served when nothing else can be.",
    )
    train_budget_seconds: float = Field(
        30.0, gt=0, description="Time the search of one training may take."
    )
    train_timeout_seconds: float = Field(
        1800.0, gt=0, description="A training that runs longer is stopped and fails."
    )
    train_memory_mb: int = Field(
        4096, ge=512, description="A training that needs more memory fails."
    )
    train_scheduler: str | None = Field(
        None,
        description="Dask scheduler that trainings run on, e.g. `tcp://scheduler:8786`; processes "
        "of this machine if empty.",
    )
    random_seed: int = Field(20, ge=0, description="Seed of folds, search and models.")

    gate_max_mae: float = Field(
        1.0,
        gt=0,
        description="Highest MAE (grades, both period grades known) that may be promoted.",
    )
    gate_min_r2: float = Field(
        0.80, le=1.0, description="Lowest R² (both period grades known) that may be promoted."
    )
    gate_significance: float = Field(
        0.05, gt=0, lt=0.5, description="Level of the paired tests in the gate."
    )
    gate_max_mae_gap: float = Field(
        0.5,
        gt=0,
        allow_inf_nan=False,
        description="Largest difference in MAE (grades) between a group and the others.",
    )
    gate_max_rate_gap: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Largest difference in false alarms or missed failures (shares) between a "
        "group and the others.",
    )
    alarm_recall: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Share of failing pupils that the alarm is to find."
    )

    max_body_bytes: int = Field(1 << 20, ge=1024, description="Largest request body.")
    max_batch_body_bytes: int = Field(
        16 << 20, ge=1024, description="Largest body of `/predict_batch`."
    )
    request_seconds: float = Field(
        20.0,
        gt=0,
        description="A request that is not whole after this long is given up, and so is an answer "
        "that is not taken, unless 16 KiB a second move.",
    )
    short_cut: bool = Field(
        True,
        description="Answer `/predict` in front of BentoML's own wrapper: the same bytes, sooner.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Log level."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto`: readable in a terminal, JSON lines elsewhere."
    )

    @field_validator("seed_model_path")
    @classmethod
    def _no_pickles(cls, path: Path) -> Path:
        if path.suffix.lower() in _PICKLES:
            raise ValueError(
                "SEED_MODEL_PATH points to a joblib pickle of the replaced application. Loading a "
                "pickle runs whatever code it holds, so it is refused: remove the setting to use "
                "the seed model that ships with the project, or make one with "
                "`python -m training seed`."
            )
        return path

    @field_validator("state_dir", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().resolve()

    @model_validator(mode="after")
    def _roles_differ(self) -> Self:
        if (
            self.admin_token is not None
            and self.api_token is not None
            and self.admin_token.get_secret_value() == self.api_token.get_secret_value()
        ):
            raise ValueError("ADMIN_TOKEN and API_TOKEN must differ")
        return self

    @property
    def bind_address(self) -> str:
        """`host` as an IP address, which is what BentoML asks for."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    @property
    def api_url(self) -> str:
        """Where the web interface finds the API."""
        if self.ui_api_url is not None:
            return self.ui_api_url.rstrip("/")
        # "Every address" is where one listens, not where one is found.
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - said, not bound to
        host = everywhere.get(self.bind_address, self.bind_address)
        return f"http://{host}:{self.port}"

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database in use."""
        return self.database_url or f"sqlite:///{self.state_dir / 'student_success.db'}"

    @property
    def tracking_uri(self) -> str:
        """Absolute MLflow tracking URI in use."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.state_dir / 'mlflow.db'}"

    @property
    def registry_is_local(self) -> bool:
        """Whether MLflow is a database file here rather than a server."""
        return not self.tracking_uri.startswith(("http://", "https://"))

    @property
    def artefact_root(self) -> Path:
        """Folder of MLflow's artefacts when no server keeps them."""
        return self.state_dir / "mlflow-artefacts"

    def check_exposure(self, host: str) -> None:
        """Refuse to listen beyond this machine without a token.

        Raises
        ------
        ConfigurationError
            If `host` is not loopback, no `API_TOKEN` is set and `ALLOW_ANONYMOUS` is not true.
        """
        if host == "localhost" or self.api_token is not None or self.allow_anonymous:
            return
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ConfigurationError(
                f"Listening on {host} would show pupils' data to anyone who can reach it: set "
                "API_TOKEN, or ALLOW_ANONYMOUS=true if that is meant."
            )
