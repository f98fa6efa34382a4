"""Find the references that more than one row of a file has, without keeping the references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

MAX_COMPARED = 20_000_000
"""Rows of a file whose references are compared, with 12 bytes for each."""
_SHOWN = 10
_ODD = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BYTES = np.array([256**count - 1 for count in range(9)], np.uint64)


def hash_references(references: Any, lines: NDArray[np.int64]) -> tuple[bytes, bytes]:
    """Return hashes of 64 bits and lines of 32 bits of the references that are not empty."""
    known = pc.fill_null(pc.not_equal(references, ""), False)
    texts = references.filter(known)
    if not len(texts):
        return b"", b""
    _, offsets, letters = texts.buffers()
    places = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    starts, lengths = places[:-1].astype(np.int64), np.diff(places)
    content = np.concatenate([np.frombuffer(letters, np.uint8), np.zeros(8, np.uint8)])
    # The eight bytes that begin at each byte.
    words = np.ndarray(len(content) - 7, "<u8", content, strides=(1,))
    hashes = lengths.astype(np.uint64)
    for start in range(0, int(lengths.max()), 8):
        longer = slice(None) if lengths.min() > start else np.flatnonzero(lengths > start)
        left = np.minimum(lengths[longer] - start, 8)
        mixed = (hashes[longer] ^ (words[starts[longer] + start] & _FIRST_BYTES[left])) * _ODD
        hashes[longer] = mixed ^ (mixed >> np.uint64(32))
    numbers = lines[known.to_numpy(zero_copy_only=False)].astype(np.uint32)
    return hashes.tobytes(), numbers.tobytes()


class References:
    """The references of a file, as hashes of 64 bits."""

    def __init__(self) -> None:
        self._hashes, self._lines = bytearray(), bytearray()
        self._count = 0

    def add(self, hashes: bytes, lines: bytes) -> None:
        """Add what `hash_references` returned for a part."""
        self._count += len(hashes) // 8
        if self._count <= MAX_COMPARED:
            self._hashes += hashes
            self._lines += lines

    def note(self) -> str:
        """Return what a person should know of repeated references, or ""."""
        hashes = np.frombuffer(self._hashes, np.uint64)
        ordered = np.sort(hashes)
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        limit = f"only the first {len(hashes):,} references were compared with one another"
        if not len(repeated):
            return limit if self._count > len(hashes) else ""
        lines = np.frombuffer(self._lines, np.uint32)
        first = hashes[np.isin(hashes, repeated)][0]
        places = ", ".join(map(str, lines[hashes == first][:_SHOWN]))
        said = f"{len(repeated):,} repeated references, the first on lines {places}"
        return f"{said}; {limit}" if self._count > len(hashes) else said
