"""Read every setting once, from the environment and from `.env` files.

A variable of the environment wins over ``.env`` in the folder where the command was started, which
wins over ``STATE_DIR/.env``. `Settings` is frozen: a process keeps the values it started with.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from dotenv.parser import parse_stream
from platformdirs import user_state_path
from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from student_success.core.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout; ``site-packages`` when the package is installed."""
SHIPPED_PROFILE = ROOT / "student_success" / "profiles" / "uci.toml"
IS_CHECKOUT = (ROOT / "pyproject.toml").is_file()

RENAMED = {
    "FASTAPI_PORT": "PORT",
    "STREAMLIT_PORT": "UI_PORT",
    "MLFLOW_PORT": "MLFLOW_UI_PORT",
}
"""Names of the replaced application's ``.env`` that still work, and the name to use now."""

REMOVED = (
    "ALIAS_CHECK_SECONDS",
    "CONTROL_SYNCHRONOUS",
    "FOLLOW_SECONDS",
    "MONITOR_ROWS",
    "SHORT_CUT",
)
"""Settings of earlier versions that have no effect any more."""

GROUPS = {
    "Addresses and processes": "host",
    "Access": "admin_token",
    "History and deployments": "database_url",
    "Registry": "mlflow_tracking_uri",
    "Monitoring": "monitor_seconds",
    "Training": "profile_path",
    "Promotion": "gate_max_mae",
    "Requests": "max_body_bytes",
    "Logging and traces": "log_level",
}
"""Title of each group in the documentation, and the setting it begins with."""

INTERNAL = ("test_alias_check_seconds",)
"""Settings for the tests of this project, which are not documented."""

_FOLDER = "STUDENT_SUCCESS_FOLDER"
_MODEL_NAME = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:\d{1,5})?"
)
_HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(:\d{0,5})?")
_ENV_ENCODING = "utf-8-sig"
"""UTF-8 with or without the byte order mark that editors on Windows write."""
_NO_UTF_8 = "Nothing was started: {} is not text in UTF-8. Save it again with that encoding."
_PICKLES = {".joblib", ".pkl", ".pickle"}
_SQLITE = "sqlite:///"
INTERFACE_STARTED = "STUDENT_SUCCESS_INTERFACE"
"""Environment variable that tells the workers that a web interface was started beside them."""
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
"""For each address that means "every address of the machine", one that a client can connect to."""


def start_folder() -> Path:
    """Return the folder where the command was started, also in its child processes."""
    return Path(os.environ.get(_FOLDER) or Path.cwd())


def enter_root() -> None:
    """Make `ROOT` the current folder, and remember the folder where the command was started.

    BentoML's workers and the child processes run in `ROOT`, so that no module of the caller's
    folder is imported in place of ours.
    """
    os.environ[_FOLDER] = str(start_folder())
    os.chdir(ROOT)


def read_env_file(path: Path) -> dict[str, str | None]:
    """Return the names and values of a ``.env`` file; an absent file has none.

    Raises
    ------
    ConfigurationError
        If it is not text in UTF-8, has a line that is no setting, is a folder or cannot be read.
    """
    try:
        if path.is_dir():
            if (path / "pyvenv.cfg").exists():
                # A virtual environment.
                return {}
            raise ConfigurationError(
                f"Nothing was started: {path} is a folder. Put a file with settings in its place."
            )
        with path.open(encoding=_ENV_ENCODING) as file:
            statements = list(parse_stream(file))
    except UnicodeDecodeError as error:
        raise ConfigurationError(_NO_UTF_8.format(path)) from error
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigurationError(
            f"Nothing was started: {path} cannot be read ({error.strerror})."
        ) from error
    for statement in statements:
        # UTF-16 without a byte order mark is valid UTF-8.
        if "\0" in statement.original.string:
            raise ConfigurationError(_NO_UTF_8.format(path))
        # It might be meant to be a token: without it the service would be open.
        if statement.error:
            raise ConfigurationError(
                f"Nothing was started: {path} cannot be read from line {statement.original.line} "
                "on. Write NAME=value there, and close each quote."
            )
    return {statement.key: statement.value for statement in statements if statement.key}


def env_files() -> tuple[Path, Path]:
    """Return the two ``.env`` files that are read; the second wins over the first."""
    here = start_folder() / ".env"
    state_dir = os.environ.get("STATE_DIR") or read_env_file(here).get("STATE_DIR")
    folder = Path(state_dir) if state_dir else user_state_path("student-success")
    # Unlike `Path.expanduser`, it leaves the name of an unknown user; `Settings` refuses that.
    return start_folder() / os.path.expanduser(folder) / ".env", here


def profile_path() -> Path:
    """Return the profile in use, without reading the other settings."""
    value = os.environ.get("PROFILE_PATH") or next(
        (v for path in env_files()[::-1] if (v := read_env_file(path).get("PROFILE_PATH"))), None
    )
    return (start_folder() / Path(value).expanduser()).resolve() if value else SHIPPED_PROFILE


def _renamed(old: str) -> AliasChoices:
    return AliasChoices(RENAMED[old], old)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ipaddress.ip_address(text).is_loopback


def _absolute_url(url: str | None) -> str | None:
    """Make the path of an SQLite URL absolute: child processes run in another folder."""
    if url is None or not url.startswith(_SQLITE) or url.startswith((f"{_SQLITE}/", f"{_SQLITE}:")):
        return url
    return _SQLITE + str(start_folder() / url.removeprefix(_SQLITE))


def setting_problems(error: ValidationError) -> Iterator[str]:
    """Yield each invalid setting by its name, without its value, which may be a token."""
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = "_".join(str(part) for part in problem["loc"]).upper() or "SETTINGS"
        yield f"{name}: {problem['msg']}"


def http_url(host: str, port: int) -> str:
    """Return the URL of an address; an IPv6 one needs brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_port(setting: str, host: str, port: int) -> None:
    """Check that this process can listen on a port.

    Raises
    ------
    ConfigurationError
        With the name of the setting, if it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigurationError(
            f"The service was not started: {setting} {port} on {host} cannot be used "
            f"({error.strerror}). Stop the program that uses it, or set another {setting}."
        ) from error


class Settings(BaseSettings):
    """Hold what a person may set; each field is the environment variable of the same name."""

    model_config = SettingsConfigDict(
        # Read at once, before `settings_customise_sources` puts `env_files` in its place.
        env_file=os.devnull,
        env_file_encoding=_ENV_ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # Reject infinite limits and timeouts: they would switch the limit off.
        allow_inf_nan=False,
        # A setting may be a token, which no error message may show.
        hide_input_in_errors=True,
    )

    host: str = Field("127.0.0.1", description="Address on which the API listens.")
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
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path below which a reverse proxy shows this process, for example `/school`: "
        "pages and redirects lead there. Requests may come with the path or without it.",
    )
    cors_origins: str = Field(
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
    state_dir: Path = Field(
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
    model_name: str = Field("student_success_model", description="Registered model in MLflow.")
    model_alias: str = Field("meilleur", description="Alias that marks the promoted version.")
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

    profile_path: Path | None = Field(
        None,
        description="TOML file that describes the school: grades, features and words; the one that "
        "ships if empty.",
    )
    data_path: Path | None = Field(
        None, description="File to train on; else `data/final.csv`, else `data/sample.csv`."
    )
    data_mapping: Path | None = Field(
        None,
        description="TOML file that says what the columns of `DATA_PATH` hold, as for `score "
        "--mapping`.",
    )
    seed_model_path: Path = Field(
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read `env_files` in place of ``.env``, unless a caller passes ``_env_file=None``."""
        if isinstance(dotenv_settings, DotEnvSettingsSource) and dotenv_settings.env_file:
            files = env_files()
            for path in files:
                read_env_file(path)
            dotenv_settings = DotEnvSettingsSource(settings_cls, env_file=files)
        return init_settings, env_settings, dotenv_settings

    @field_validator("seed_model_path")
    @classmethod
    def _no_pickles(cls, path: Path) -> Path:
        if path.suffix.lower() in _PICKLES:
            raise ValueError(
                "SEED_MODEL_PATH points to a joblib pickle of the replaced application. Loading a "
                "pickle runs any code that it contains, so it was not loaded. Remove the setting "
                "to use the seed model of the package, or make one with `student-success seed`."
            )
        return path

    @field_validator(
        "state_dir", "profile_path", "data_path", "data_mapping", "seed_model_path", mode="after"
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        try:
            return path and (start_folder() / path.expanduser()).resolve()
        except RuntimeError:
            raise ValueError(
                "cannot be found: a link leads to itself, or the user after '~' is unknown"
            ) from None

    @field_validator("state_dir")
    @classmethod
    def _path_for_database_urls(cls, path: Path) -> Path:
        if not {"?", "%"}.isdisjoint(str(path)):
            raise ValueError("must not contain '?' or '%', which mean something else in a URL")
        return path

    @field_validator("cors_origins")
    @classmethod
    def _origins_as_browsers_send_them(cls, origins: str) -> str:
        if origins and not all(_ORIGIN.fullmatch(part.strip()) for part in origins.split(",")):
            raise ValueError(
                "must be origins as browsers send them, separated by commas: http:// or https://, "
                "the host in small letters, and the port unless it is the scheme's own; no path, "
                "no final slash, no '*'"
            )
        return origins

    @field_validator("model_name")
    @classmethod
    def _name_for_both_stores(cls, name: str) -> str:
        if not _MODEL_NAME.fullmatch(name):
            raise ValueError(
                "must be 1 to 63 small letters, digits, '-', '.' and '_', with a letter or digit "
                "at both ends: the Bento store allows no other name"
            )
        return name

    @field_validator("model_alias")
    @classmethod
    def _alias_of_mlflow(cls, alias: str) -> str:
        if not _ALIAS.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias):
            raise ValueError(
                "must be 1 to 255 letters, digits, '-' and '_', and neither 'latest' nor 'v' with "
                "a number, which MLflow reserves"
            )
        return alias

    @model_validator(mode="after")
    def _roles_differ(self) -> Self:
        if (
            self.admin_token is not None
            and self.api_token is not None
            and self.admin_token.get_secret_value() == self.api_token.get_secret_value()
        ):
            raise ValueError("ADMIN_TOKEN and API_TOKEN must differ")
        return self

    @model_validator(mode="after")
    def _budget_fits_the_time_limit(self) -> Self:
        # A time limit below the default budget is fine: it bounds the training.
        if (
            "train_budget_seconds" in self.model_fields_set
            and self.train_budget_seconds > self.train_timeout_seconds
        ):
            raise ValueError(
                f"TRAIN_BUDGET_SECONDS is {self.train_budget_seconds:g}; it must be at most "
                f"TRAIN_TIMEOUT_SECONDS, {self.train_timeout_seconds:g}"
            )
        return self

    @property
    def bind_address(self) -> str:
        """`host` as an IP address, which BentoML requires."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    @property
    def ui_address(self) -> str:
        """Address of the web interface as an IP address."""
        if self.ui_host is None:
            return self.bind_address
        return "127.0.0.1" if self.ui_host == "localhost" else self.ui_host

    @property
    def api_url(self) -> str:
        """URL of the API for the web interface."""
        if self.ui_api_url is not None:
            return self.ui_api_url.rstrip("/")
        return http_url(ANY_ADDRESS.get(self.bind_address, self.bind_address), self.port)

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database in use."""
        return _absolute_url(self.database_url) or f"{_SQLITE}{self.state_dir}/student_success.db"

    @property
    def tracking_uri(self) -> str:
        """Absolute MLflow tracking URI in use."""
        return _absolute_url(self.mlflow_tracking_uri) or f"{_SQLITE}{self.state_dir}/mlflow.db"

    @property
    def registry_is_local(self) -> bool:
        """Whether MLflow is a database of this machine rather than a server."""
        return not self.tracking_uri.startswith(("http://", "https://"))

    @property
    def artefact_root(self) -> Path:
        """Folder of MLflow's artefacts when no server keeps them."""
        return self.state_dir / "mlflow-artefacts"

    @property
    def data_dir(self) -> Path:
        """Folder of the prepared data: ``data`` of the source tree, else in the state folder."""
        folder = ROOT / "data"
        return folder if (folder / "sample.csv").is_file() else self.state_dir / "data"

    def strip_root(self, path: str) -> str:
        """Return the path of a request without `root_path`, if it begins with that."""
        if self.root_path and f"{path}/".startswith(f"{self.root_path}/"):
            return path[len(self.root_path) :] or "/"
        return path

    def allows_host(self, header: str, *, address: str) -> bool:
        """Tell whether a request may be addressed to this host, to prevent DNS rebinding.

        Parameters
        ----------
        header
            The header ``Host``, with or without a port.
        address
            IP address on which the server listens.
        """
        allowed = {name.strip().lower() for name in self.allowed_hosts.split(",")}
        if "*" in allowed:
            return True
        match = _HOST.fullmatch(header.lower())
        if match is None:
            return False
        name = match["address"] or match["name"].rstrip(".")
        if name in {"localhost", address, *allowed - {""}}:
            return True
        if _is_loopback(address):
            return _is_loopback(name)
        # No page on the internet has such a name, and no name server decides what it stands for.
        return "." not in name or _is_address(name)

    def check_exposure(self, host: str) -> None:
        """Raise an error if the API would be open to other machines without a token.

        Raises
        ------
        ConfigurationError
            If `host` is not loopback, no `API_TOKEN` is set and `ALLOW_ANONYMOUS` is not true.
        """
        if host == "localhost" or self.api_token is not None or self.allow_anonymous:
            return
        if not _is_loopback(host):
            raise ConfigurationError(
                f"The service was not started: on {host}, anyone who can reach it could read "
                "pupils' data. Set API_TOKEN, or ALLOW_ANONYMOUS=true to allow that."
            )


def use_bento_store(settings: Settings) -> Path:
    """Make this process and its children use the Bento store of the settings.

    Returns
    -------
    Path
        The folder of BentoML: `BENTOML_HOME`, or a folder of the state directory if it is not set.
    """
    home = Path(os.environ.get("BENTOML_HOME") or settings.state_dir / "bentoml")
    os.environ.update(BENTOML_HOME=str(home), BENTOML_DO_NOT_TRACK="True")
    # Without it each thread gets a heap of its own, which keeps memory that it used once.
    os.environ["MALLOC_ARENA_MAX"] = os.environ.get("MALLOC_ARENA_MAX") or "2"
    return home
