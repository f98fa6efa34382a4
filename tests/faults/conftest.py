"""Time limits of the long form, and the counts of the fault tests at the end of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.promise_counts import LONG_FORM, counts

LONG_FORM_SECONDS = 4 * 3600
"""Limit for one test of the long form."""
_KEY = "fault_counts"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of the long form the time for it; those of other folders keep theirs."""
    for item in items if LONG_FORM else ():
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(LONG_FORM_SECONDS), append=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the counts of a pytest-xdist worker to the main process."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_KEY] = counts.plain()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the counts of a pytest-xdist worker; a crashed worker has none."""
    counts.merge(getattr(node, "workeroutput", {}).get(_KEY, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = counts.table()
    if lines:
        terminalreporter.section("faults injected, requests made, acknowledged, lost")
        for line in lines:
            terminalreporter.write_line(line)
