"""Commands change the state of their process; here it is restored after each test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_process_state(own_process_state: None) -> None:
    pass
