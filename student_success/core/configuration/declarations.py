"""The table of settings, in the order of the documentation."""

from __future__ import annotations

from typing import Literal

from platformdirs import user_state_path
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings

from student_success.core.configuration.checked_types import (
    AbsolutePath,
    ModelAlias,
    ModelName,
    Origins,
    Port,
    SeedFolder,
    StateFolder,
)
from student_success.core.configuration.names import RENAMED
from student_success.core.paths import ROOT


def _renamed(old: str) -> AliasChoices:
    return AliasChoices(RENAMED[old], old)


# Only `Settings` builds a validator, which takes milliseconds.
class Declarations(BaseSettings, defer_build=True):
    """Declare every setting; `Settings` reads them."""

    host: str = Field("127.0.0.1", description="Address on which the API listens.")
    port: Port = Field(
        8000, validation_alias=_renamed("FASTAPI_PORT"), description="Port of the API."
    )
    ui_port: Port = Field(
        7860,
        validation_alias=_renamed("STREAMLIT_PORT"),
        description="Port of the web interface.",
    )
    mlflow_ui_port: Port = Field(
        5000,
        validation_alias=_renamed("MLFLOW_PORT"),
        description="Port on which `make mlflow` opens MLflow's own interface.",
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path below which a reverse proxy shows this process, for example `/school`: "
        "pages and redirects lead there. Requests may come with the path or without it.",
    )
    cors_origins: Origins = Field(
        "",
        description="Origins, separated by commas, whose pages may call the API from a browser, "
        "for example `https://portal.example.org`; no other page may. `*` is refused.",
    )
    ui_url: str | None = Field(
        None, description="URL to which `GET /` redirects a browser; `/docs` if empty."
    )
    ui_enabled: bool = Field(True, description="Start the web interface beside the API.")
    ui_host: str | None = Field(
        None, description="Address on which the web interface listens; `HOST` if empty."
    )
    ui_api_url: str | None = Field(
        None,
        description="URL of the API for the web interface; by `HOST` and `PORT` if empty.",
    )
    ui_max_upload_mb: int = Field(
        5,
        ge=1,
        le=100,
        description="Largest class list the web interface reads, in megabytes.",
    )
    api_public_url: str | None = Field(
        None, description="URL of the API's pages for the reader's browser; no link if empty."
    )
    grafana_url: str | None = Field(
        None, description="URL of Grafana for the reader's browser; no link if empty."
    )
    mlflow_url: str | None = Field(
        None, description="URL of MLflow for the reader's browser; no link if empty."
    )
    workers: int = Field(1, ge=1, le=64, description="Number of API worker processes.")
    drain_seconds: float = Field(
        1.0,
        ge=0,
        le=300,
        description="Seconds after SIGTERM in which the server still accepts new connections while "
        "`/readyz` answers 503. Choose more than the load balancer needs to notice.",
    )
    state_dir: StateFolder = Field(
        default_factory=lambda: user_state_path("student-success"),
        description="Folder of databases, registry, model store and logs; not inside the checkout.",
    )

    admin_token: SecretStr | None = Field(
        None, description="Token for training, promotion, rollback, erasure and the whole history."
    )
    api_token: SecretStr | None = Field(
        None,
        description="Token for predictions and session history; open to everyone if empty.",
    )
    allow_anonymous: bool = Field(
        False, description="Allow anonymous predictions on a non-loopback address."
    )
    allowed_hosts: str = Field(
        "",
        description="Names, separated by commas, by which clients may address the API and the web "
        "interface, besides loopback names and the address listened on; `*` allows all. On an "
        "address of the network, IP addresses and names without a dot are allowed too. Other "
        "names get 421, which prevents DNS rebinding.",
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
        "of 503. Requests with an `Idempotency-Key` still get 503.",
    )
    school_year_starts: str = Field(
        "08-01",
        pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$",
        description="Month and day; a reference means another pupil in the next school year.",
    )
    history_retention_days: int | None = Field(
        None, ge=1, description="Erase predictions older than this; keep all if empty."
    )

    mlflow_tracking_uri: str | None = Field(
        None,
        # It may hold a password.
        repr=False,
        # Whether the registry answers is found out without MLflow's library, for these two only.
        pattern=r"^(https?://[^\s/]|sqlite:///)",
        description="MLflow server; SQLite and a folder in `STATE_DIR` if empty.",
    )
    model_name: ModelName = Field(
        "student_success_model", description="Registered model in MLflow."
    )
    model_alias: ModelAlias = Field(
        "meilleur", description="Alias that marks the promoted version."
    )
    mlflow_experiment_name: str = Field(
        "student_success_training", description="MLflow experiment of the training runs."
    )
    registry_timeout_seconds: float = Field(
        60.0, gt=0, description="Longest time for one operation of the registry, in seconds."
    )
    test_alias_check_seconds: float = Field(
        30.0,
        gt=0,
        # Internal: tests that move the alias by hand cannot wait so long.
        description="How often the service compares MLflow's alias with the version served.",
    )

    monitor_seconds: float = Field(
        60.0,
        gt=0,
        description="Interval at which live error and drift are computed, in seconds.",
    )
    drift_minimum_count: int = Field(
        50, ge=10, description="Smallest number of pupils for which drift is computed."
    )
    drift_minimum_distance: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Smallest distance from the training data that counts as drift.",
    )

    profile_path: AbsolutePath | None = Field(
        None,
        description="TOML file that describes the school: grades, features and words; the one that "
        "ships if empty.",
    )
    data_path: AbsolutePath | None = Field(
        None, description="File to train on; else `data/final.csv`, else `data/sample.csv`."
    )
    data_mapping: AbsolutePath | None = Field(
        None,
        description="TOML file that says what the columns of `DATA_PATH` hold, as for `score "
        "--mapping`.",
    )
    seed_model_path: SeedFolder = Field(
        ROOT / "student_success" / "seed",
        description="Folder of the seed model, served when no version was promoted.",
    )
    train_budget_seconds: float = Field(
        30.0,
        gt=0,
        description="How long one training may take on two idle cores, its evaluation included, "
        "in seconds: a larger budget tries more candidates. The smallest training, which "
        "only compares the families, takes 12 seconds for 700 pupils and 76 for 300,000, whatever "
        "the budget. At most `TRAIN_TIMEOUT_SECONDS`.",
    )
    train_timeout_seconds: float = Field(
        1800.0, gt=0, description="Time limit of one training, in seconds; a longer one is stopped."
    )
    train_memory_mb: int = Field(
        4096, ge=512, description="Memory limit of one training; a training that needs more fails."
    )
    train_scheduler: str | None = Field(
        None,
        description="Dask scheduler for trainings, e.g. `tcp://scheduler:8786`; processes of "
        "this machine if empty.",
    )
    random_seed: int = Field(20, ge=0, description="Random seed of folds, search and models.")

    gate_max_mae: float | None = Field(
        None,
        gt=0,
        description="Highest MAE (grades, all period grades known) that may be promoted; the "
        "profile's if empty, 1.0 in the one that ships.",
    )
    gate_min_r2: float | None = Field(
        None,
        le=1.0,
        description="Lowest R² (all period grades known) that may be promoted; the profile's if "
        "empty, 0.8 in the one that ships.",
    )
    gate_significance: float = Field(
        0.05, gt=0, lt=0.5, description="Significance level of the paired tests in the gate."
    )
    gate_max_mae_gap: float | None = Field(
        None,
        gt=0,
        description="Largest difference in MAE (grades) between a group and the others; a fortieth "
        "of the scale if empty, which is 0.5 from 0 to 20.",
    )
    gate_max_rate_gap: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Largest difference in false alarms or missed failures (shares) between a "
        "group and the others.",
    )
    alarm_recall: float = Field(
        0.9, gt=0, lt=1, description="Share of failing pupils that the alarm has to find."
    )

    max_body_bytes: int = Field(1 << 20, ge=1024, description="Largest request body.")
    max_batch_body_bytes: int = Field(
        16 << 20, ge=1024, description="Largest body of `/predict_batch`."
    )
    request_seconds: float = Field(
        20.0,
        gt=0,
        description="Time limit for receiving a request and for sending a response, in seconds; "
        "transfers of 16 KiB a second or more may take longer.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level of log lines."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto`: text in a terminal, JSON lines elsewhere."
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]",
        description="URL of an OpenTelemetry collector (OTLP over HTTP), for example "
        "`http://collector:4318`; no traces if empty.",
    )
