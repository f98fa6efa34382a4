"""All Prometheus metrics of the service, but the one whose buckets the school's profile gives.

Metrics have base units, `_total` on counters, bounded labels, and an explicit multiprocess mode on
every gauge. BentoML measures HTTP itself (`bentoml_service_request_*`).
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, values

logger = logging.getLogger(__name__)

_PREFIX = "student_success"
_FOLDER = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
"""Folder of the metrics of all workers; empty or absent in other processes."""
_files_name = str(os.getpid())


def restore_lost_files() -> None:
    """Write the files of this process again if they were removed while they were in use.

    A logout removes them, for example, if `RemoveIPC=yes` is set for systemd-logind. On systems
    other than Linux the counts start again from 0.
    """
    global _files_name
    if not _FOLDER or os.path.exists(f"{_FOLDER}/counter_{_files_name}.db"):
        return
    Path(_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    _, _, number = _files_name.partition("-")
    new_name = f"{os.getpid()}-{int(number or 0) + 1}"
    removed = f"_{_files_name}.db (deleted)"
    with contextlib.suppress(OSError):
        for descriptor in Path("/proc/self/fd").iterdir():
            name = Path(os.readlink(descriptor)).name
            if name.endswith(removed):
                new_file = Path(_FOLDER, name.replace(removed, f"_{new_name}.db"))
                new_file.write_bytes(descriptor.read_bytes())
    _files_name = new_name
    # Open them now: what is not open cannot be restored if it is removed as well.
    wrong_tokens_total.inc(0)
    logger.warning("metrics_files_restored")


def remove_files_of_dead_workers() -> None:
    """Remove the `live` gauges of workers that were killed; call when a worker starts.

    Otherwise a killed worker would seem to serve its version for ever.
    """
    for path in Path(_FOLDER).glob("gauge_live*_*.db") if _FOLDER else ():
        number = path.stem.rpartition("_")[2].partition("-")[0]
        if number.isdigit() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


# Before the first metric is made. The values open new files when the name of the files changes.
values.ValueClass = (
    values.MultiProcessValue(lambda: _files_name)  # type: ignore[no-untyped-call]
    if _FOLDER
    else values.MutexValue
)

predictions_total = Counter(
    f"{_PREFIX}_predictions_total",
    "Predictions answered and committed to the history.",
    ["decision", "horizon", "model_version"],
)
unusual_values_total = Counter(
    f"{_PREFIX}_unusual_values_total",
    "Values of predicted pupils that lie far from the training data of the served model.",
    ["feature"],
)
prediction_errors_total = Counter(
    f"{_PREFIX}_prediction_errors_total",
    "Prediction requests that were not answered, by error code.",
    ["reason"],
)
wrong_tokens_total = Counter(
    f"{_PREFIX}_wrong_tokens_total",
    "Requests with a token that is not valid, those that are delayed included.",
)
inference_duration_seconds = Histogram(
    f"{_PREFIX}_inference_duration_seconds",
    "Time of one model call, features in to prediction out.",
    buckets=(1e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.5),
)
history_commit_duration_seconds = Histogram(
    f"{_PREFIX}_history_commit_duration_seconds",
    "Time of one group commit to the history.",
    buckets=(5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
)
history_write_errors_total = Counter(
    f"{_PREFIX}_history_write_errors_total",
    "Group commits that failed; their requests were answered 503.",
)
model_info = Gauge(
    f"{_PREFIX}_model_info",
    "1 for the version served, 0 for versions served before.",
    ["model_version", "source"],
    multiprocess_mode="livemax",
)
model_reloads_total = Counter(
    f"{_PREFIX}_model_reloads_total",
    "Changes of the served version tried by a worker.",
    ["outcome"],
)
training_runs_total = Counter(
    f"{_PREFIX}_training_runs_total", "Trainings ended, by outcome.", ["outcome"]
)
training_duration_seconds = Histogram(
    f"{_PREFIX}_training_duration_seconds",
    "Wall time of a training.",
    buckets=(1, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
training_last_success_timestamp_seconds = Gauge(
    f"{_PREFIX}_training_last_success_timestamp_seconds",
    "When a training last ended with a candidate.",
    multiprocess_mode="mostrecent",
)
training_last_mae = Gauge(
    f"{_PREFIX}_training_last_mae",
    "Cross-validated MAE of the last candidate, both period grades known, in grades.",
    multiprocess_mode="mostrecent",
)
training_last_r2 = Gauge(
    f"{_PREFIX}_training_last_r2",
    "Cross-validated R² of the last candidate, both period grades known.",
    multiprocess_mode="mostrecent",
)
live_mae = Gauge(
    f"{_PREFIX}_live_mae",
    "Mean absolute error against the grades really obtained, in grades, by what was known; NaN "
    "while no grade is recorded.",
    ["horizon"],
    multiprocess_mode="mostrecent",
)
live_interval_coverage = Gauge(
    f"{_PREFIX}_live_interval_coverage",
    "Share of the grades really obtained that lie within their 90 % interval; NaN while none is "
    "recorded.",
    multiprocess_mode="mostrecent",
)
live_outcomes = Gauge(
    f"{_PREFIX}_live_outcomes",
    "Grades really obtained that the live figures are computed from, by what was known.",
    ["horizon"],
    multiprocess_mode="mostrecent",
)
feature_drift = Gauge(
    f"{_PREFIX}_feature_drift",
    "Distance of a feature from the training data, 0 to 1; NaN while there are too few pupils.",
    ["feature"],
    multiprocess_mode="mostrecent",
)
prediction_drift = Gauge(
    f"{_PREFIX}_prediction_drift",
    "Distance of the predicted grades from those of the training data, 0 to 1; NaN while there "
    "are too few.",
    multiprocess_mode="mostrecent",
)
drift_detected = Gauge(
    f"{_PREFIX}_drift_detected",
    "Features, and predictions as one more, whose verdict is drift: significant after correction "
    "for many tests, and far enough to matter.",
    multiprocess_mode="mostrecent",
)
promotions_total = Counter(
    f"{_PREFIX}_promotions_total", "Promotions and rollbacks asked for, by outcome.", ["outcome"]
)
access_log_lines_dropped_total = Counter(
    f"{_PREFIX}_access_log_lines_dropped_total",
    "Access log lines dropped because standard error was read too slowly.",
)
build_info = Gauge(
    f"{_PREFIX}_build_info",
    "1; the version of the application is in the label.",
    ["version"],
    multiprocess_mode="mostrecent",
)
worker_start_time_seconds = Gauge(
    f"{_PREFIX}_worker_start_time_seconds",
    "When a worker process started.",
    ["worker"],
    multiprocess_mode="max",
)
worker_memory_bytes = Gauge(
    f"{_PREFIX}_worker_memory_bytes",
    "Resident memory of a worker process, without trainings.",
    ["worker"],
    multiprocess_mode="mostrecent",
)
workers_behind = Gauge(
    f"{_PREFIX}_workers_behind",
    "Workers of this server that do not serve the newest deployment.",
    multiprocess_mode="mostrecent",
)
model_synthetic = Gauge(
    f"{_PREFIX}_model_synthetic",
    "1 if the served version was trained on made-up data.",
    multiprocess_mode="mostrecent",
)
registry_up = Gauge(
    f"{_PREFIX}_registry_up", "1 if MLflow answers this server.", multiprocess_mode="mostrecent"
)
database_up = Gauge(
    f"{_PREFIX}_database_up",
    "1 if the database answers this server.",
    multiprocess_mode="mostrecent",
)
database_bytes = Gauge(
    f"{_PREFIX}_database_bytes",
    "Size of the database: the SQLite file and its log, or what PostgreSQL says.",
    multiprocess_mode="mostrecent",
)
audit_log_problems = Gauge(
    f"{_PREFIX}_audit_log_problems",
    "What `verify` finds wrong in the audit log of deployments.",
    multiprocess_mode="mostrecent",
)
