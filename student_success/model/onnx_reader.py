"""Read the trees of an ONNX file with numpy alone, to explain what they say.

Only what our own compiler writes is read: one `TreeEnsembleRegressor`. The format is protocol
buffers: fields of a number and a length, repeated numbers one tag each (onnx.proto, proto2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GRAPH, _NODE, _ATTRIBUTE, _NAME, _FLOATS, _INTS = 7, 1, 5, 1, 7, 8
_OPERATOR, _DOMAIN, _FUNCTION = 4, 7, 25
_FLOAT_ENTRY = 5
"""Bytes of one entry of a repeated float: its tag, four bytes."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """All nodes of all trees, in the order of the file; a leaf has no children (0, 0).

    Attributes
    ----------
    cover
        How many pupils reached each node in training.
    target_tree, target_node, target, weight
        What leaves add to outputs, one entry a leaf and output.
    """

    tree: NDArray[np.int64]
    node: NDArray[np.int64]
    feature: NDArray[np.int64]
    cut: NDArray[np.float32]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    cover: NDArray[np.float32]
    target_tree: NDArray[np.int64]
    target_node: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float32]


def read(model: bytes) -> Nodes:
    """Read the nodes of the one tree ensemble in a model.

    Raises
    ------
    KeyError
        If the model holds something else.
    """
    graph = next(value for number, value in _fields(model) if number == _GRAPH)
    node = next(value for number, value in _fields(graph) if number == _NODE)
    found: dict[str, bytes] = {}
    for number, value in _fields(node):
        if number == _ATTRIBUTE:
            name = next(text for field, text in _fields(value) if field == _NAME)
            found[name.decode()] = value
    return Nodes(
        tree=_ints(found["nodes_treeids"]),
        node=_ints(found["nodes_nodeids"]),
        feature=_ints(found["nodes_featureids"]),
        cut=_floats(found["nodes_values"]),
        low=_ints(found["nodes_truenodeids"]),
        high=_ints(found["nodes_falsenodeids"]),
        cover=_floats(found["nodes_hitrates"]),
        target_tree=_ints(found["target_treeids"]),
        target_node=_ints(found["target_nodeids"]),
        target=_ints(found["target_ids"]),
        weight=_floats(found["target_weights"]),
    )


def operators(model: bytes) -> list[tuple[str, str]]:
    """Return domain and name of every operator of the model, in the order of the file.

    One that the model defines itself stands there as ``("", "function")``.
    """
    found = [("", "function") for number, _ in _fields(model) if number == _FUNCTION]
    # Protocol buffers allow a part to come in several pieces.
    for graph in (value for number, value in _fields(model) if number == _GRAPH):
        for node in (value for number, value in _fields(graph) if number == _NODE):
            said = dict(_fields(node))
            found.append((said.get(_DOMAIN, b"").decode(), said[_OPERATOR].decode()))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field; numbers that are not lengths are left out."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(data, at)
        else:
            at += 4 if kind == 5 else 8


def _after_name(attribute: bytes) -> bytes:
    """Return what follows the name; our compiler's attributes hold one list and a type."""
    _, at = _varint(attribute, 0)
    length, at = _varint(attribute, at)
    return attribute[at + length :]


def _floats(attribute: bytes) -> NDArray[np.float32]:
    raw = np.frombuffer(_after_name(attribute), dtype=np.uint8)
    count = int(np.argmax(raw[::_FLOAT_ENTRY] != (_FLOATS << 3 | 5)))
    entries = raw[: count * _FLOAT_ENTRY].reshape(count, _FLOAT_ENTRY)
    return np.ascontiguousarray(entries[:, 1:]).view("<f4")[:, 0]


def _ints(attribute: bytes) -> NDArray[np.int64]:
    raw = np.frombuffer(_after_name(attribute), dtype=np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    parts = (raw[: ends[-1] + 1].astype(np.int64) & 0x7F) << (7 * place)
    numbers = np.add.reduceat(parts, starts)
    # Tags and values take turns; the type of the attribute comes last, under another tag.
    tags, values = numbers[::2], numbers[1::2]
    return np.asarray(values[tags == _INTS << 3], dtype=np.int64)
