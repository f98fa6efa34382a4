"""Names of settings and variables: old ones, groups in the documentation, internal ones."""

from __future__ import annotations

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

INTERFACE_STARTED = "STUDENT_SUCCESS_INTERFACE"
"""Environment variable that tells the workers that a web interface was started beside them."""
