"""Read every setting once, from the environment and from `.env` files.

A variable of the environment wins over ``.env`` in the folder where the command was started, which
wins over ``STATE_DIR/.env``. `Settings` is frozen: a process keeps the values it started with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from student_success.core.configuration.addresses import (
    ANY_ADDRESS,
    http_url,
    is_address,
    is_loopback,
)
from student_success.core.configuration.declarations import Declarations
from student_success.core.configuration.env_files import ENV_ENCODING, env_files, read_env_file
from student_success.core.errors import ConfigurationError
from student_success.core.paths import ROOT, start_folder

_HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(:\d{0,5})?")
_SQLITE = "sqlite:///"


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


class Settings(Declarations):
    """Hold what a person may set; each field is the environment variable of the same name."""

    model_config = SettingsConfigDict(
        defer_build=False,
        # Read at once, before `settings_customise_sources` puts `env_files` in its place.
        env_file=os.devnull,
        env_file_encoding=ENV_ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # Reject infinite limits and timeouts: they would switch the limit off.
        allow_inf_nan=False,
        # A setting may be a token, which no error message may show.
        hide_input_in_errors=True,
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
        if is_loopback(address):
            return is_loopback(name)
        # No page on the internet has such a name, and no name server decides what it stands for.
        return "." not in name or is_address(name)

    def check_exposure(self, host: str) -> None:
        """Raise an error if the API would be open to other machines without a token.

        Raises
        ------
        ConfigurationError
            If `host` is not loopback, no `API_TOKEN` is set and `ALLOW_ANONYMOUS` is not true.
        """
        if host == "localhost" or self.api_token is not None or self.allow_anonymous:
            return
        if not is_loopback(host):
            raise ConfigurationError(
                f"The service was not started: on {host}, anyone who can reach it could read "
                "pupils' data. Set API_TOKEN, or ALLOW_ANONYMOUS=true to allow that."
            )
