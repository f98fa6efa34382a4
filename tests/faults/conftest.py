"""Print the counts of the fault tests at the end of the run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.promise_counts import counts

_KEY = "fault_counts"


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
