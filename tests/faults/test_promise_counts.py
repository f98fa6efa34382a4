"""The table of counts adds up what the fault tests counted."""

from __future__ import annotations

import pytest

from tests.faults.promise_counts import Counts

pytestmark = pytest.mark.faults


def test_counts_of_several_processes_are_added_in_one_table() -> None:
    ours, theirs = Counts(), Counts()
    ours.add(promise="never lost", faults=20, requests=5000, acknowledged=4990)
    theirs.add(promise="never lost", faults=1, requests=10, acknowledged=10, lost=1)
    theirs.add(promise="one at a time", requests=32, acknowledged=1)
    ours.merge(theirs.plain())
    lines = [line.split() for line in ours.table()]
    assert lines == [
        ["promise", "faults", "requests", "acknowledged", "lost"],
        ["never", "lost", "21", "5,010", "5,000", "1"],
        ["one", "at", "a", "time", "0", "32", "1", "0"],
        ["total", "21", "5,042", "5,001", "1"],
    ]


def test_table_is_empty_without_counts() -> None:
    assert Counts().table() == []
