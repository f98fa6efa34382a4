"""The one form in which references of pupils are kept and compared."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")
"""Characters without a visible form: byte order marks, joiners, soft hyphens, directions."""
MAX_LENGTH = 64
"""In characters; a longer one would fail the whole group commit on PostgreSQL."""


def normalise_reference(reference: str) -> str:
    """Return the one form of a reference: Unicode NFC, trimmed, without invisible characters."""
    if reference.isascii():
        return reference.strip()
    return unicodedata.normalize("NFC", INVISIBLE.sub("", reference)).strip()


def normalise_optional(reference: str | None) -> str | None:
    """Return the one form of a reference; None for none, or for blanks alone.

    Raises
    ------
    ValueError
        If it is longer than `MAX_LENGTH`: some characters become several in NFC.
    """
    normal = None if reference is None else normalise_reference(reference) or None
    if normal is not None and len(normal) > MAX_LENGTH:
        raise ValueError(f"in Unicode NFC the reference has more than {MAX_LENGTH} characters")
    return normal


def require_reference(reference: str) -> str:
    """Return the one form of a reference.

    Raises
    ------
    ValueError
        If it has only blanks or invisible characters, or is too long.
    """
    if (normal := normalise_optional(reference)) is None:
        raise ValueError("the reference has no visible character")
    return normal
