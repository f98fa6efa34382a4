"""Constants of every prediction: decision, interval level, seed version."""

from __future__ import annotations

from enum import StrEnum

INTERVAL_LEVEL = 0.9
"""Share of pupils whose final grade the interval is to hold."""
SEED = "seed"
"""Version name of the seed model, served when nothing was promoted."""


class Decision(StrEnum):
    """Pass or fail, in the words of the wire format."""

    PASS = "reussite"  # noqa: S105 - to pass, not a password
    FAIL = "echec"
