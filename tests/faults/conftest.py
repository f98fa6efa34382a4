"""What the fault tests share: the table of counts at the end of the run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.promise_counts import counts

_KEY = "fault_counts"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process of pytest-xdist, hand the counts to the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_KEY] = counts.plain()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the counts of a process of pytest-xdist; one that crashed has none to give."""
    counts.merge(getattr(node, "workeroutput", {}).get(_KEY, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = counts.table()
    if lines:
        terminalreporter.section("faults injected, requests made, acknowledged, lost")
        for line in lines:
            terminalreporter.write_line(line)
