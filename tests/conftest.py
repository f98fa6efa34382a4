"""Settings and fixtures of all tests."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline, because a busy machine is slow; derandomised, so that a failing run fails again.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

LONG_FILES = {
    "test_evaluate.py",
    "test_same_tests.py",
    "test_search_on_a_cluster.py",
    "test_soak.py",
}
"""Files of tests that take minutes, and come near the end of their folders."""

# The tests fit many small models on few cores, where more threads are slower.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """Return the folder that STUDENT_DATA_DIR names, with the three real data files.

    Skip the test without the variable. Fail if the variable is set and a file is missing.
    """
    name = os.environ.get("STUDENT_DATA_DIR")
    if not name:
        pytest.skip("set STUDENT_DATA_DIR to the folder of the real data")
    folder = Path(name)
    for file in ("student-mat.csv", "student-por.csv", "final.csv"):
        assert (folder / file).is_file(), f"STUDENT_DATA_DIR has no {file}: {folder}"
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files: at the end they leave the other of two processes without work."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Collect garbage before plugins import their last modules.

    A clean-up that fails while Python parses a module writes a traceback, for which Python 3.11
    parses as well, and then raises `SystemError` (CPython issue 106905).
    """
    gc.collect()
