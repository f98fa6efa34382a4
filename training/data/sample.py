"""Generate the synthetic sample `data/sample.csv`, for trainings without the real data.

A thousand pupils who do not exist. Their profile (17 features but G2, and what an audit asks for)
comes from a Gaussian copula over measured marginals and rank correlations; then some leave the
course, and the others move from grade to grade as measured (`training.data.sample_tables`). Within
each group values are dealt out by quota, not by chance, so that small groups come out right too.

Only the standard library's Mersenne Twister decides, so the file is the same everywhere.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any, TypeVar

from student_success.core.errors import DatasetError
from student_success.domain.students import FEATURE_NAMES, TARGET
from training.data import sample_tables as tables
from training.data.shipped import require_shipped_profile

SEED = 20
AUDIT_COLUMNS = ("sex", "address", "famsize", "Pstatus", "Medu", "Fedu")
"""Columns for fairness audits; never features."""

SAMPLE_CONTENT_SHA256 = "51dd88091d0fe5758172e13996410e63c29a3edde25602c1fb196b1b0d72b8a7"
"""Identifies the pupils of the shipped file (`training.data.dataset.content_sha256`)."""

Pupil = dict[str, Any]
V = TypeVar("V")
_NAMES = tuple(tables.MARGINALS)
_NORMAL = NormalDist()


def generate(seed: int = SEED) -> list[Pupil]:
    """Generate the pupils, each with the 17 features, G3 and the audit columns.

    Raises
    ------
    ConfigurationError
        If the profile is not the one that ships.
    """
    require_shipped_profile("The synthetic sample")
    random = Random(seed)  # noqa: S311 - the same sample each time
    latent = _latent(random)
    pupils = _profiles(random, latent)
    left = _who_left(random, pupils)
    _grades_of_those_who_left(random, pupils, left)
    gone = set(left)
    stayed = [n for n in range(tables.PUPILS) if n not in gone]
    _grades_of_those_who_stayed(random, pupils, latent, stayed)
    return pupils


def to_csv(pupils: Sequence[Pupil]) -> str:
    """Write the pupils as the file is shipped: commas, line feeds, features first."""
    out = io.StringIO(newline="")
    columns = [*FEATURE_NAMES, TARGET, *AUDIT_COLUMNS]
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(pupils)
    return out.getvalue()


def write(path: Path) -> int:
    """Write the sample to `path` and return the number of pupils.

    Raises
    ------
    DatasetError
        If the file cannot be written.
    """
    pupils = generate()
    try:
        path.write_bytes(to_csv(pupils).encode())
    except OSError as error:
        raise DatasetError(f"{path.name} cannot be written: {error.strerror}.") from error
    return len(pupils)


def _latent(random: Random) -> dict[str, list[float]]:
    """Draw correlated normal variables, one column a name, by Cholesky's root."""
    root: list[list[float]] = []
    for row, name in enumerate(_NAMES):
        target = [*(hundredths / 100 for hundredths in tables.CORRELATIONS[name]), 1.0]
        line: list[float] = []
        for column in range(row):
            above = sum(a * b for a, b in zip(line, root[column], strict=False))
            line.append((target[column] - above) / root[column][column])
        line.append(math.sqrt(1.0 - sum(a * a for a in line)))
        root.append(line)
    columns: dict[str, list[float]] = {name: [] for name in _NAMES}
    for _ in range(tables.PUPILS):
        noise = [_normal(random) for _ in _NAMES]
        for name, line in zip(_NAMES, root, strict=True):
            columns[name].append(sum(a * b for a, b in zip(line, noise, strict=False)))
    return columns


def _profiles(random: Random, latent: Mapping[str, Sequence[float]]) -> list[Pupil]:
    """Cut each latent variable into its marginal: exactly as many of each value as measured."""
    pupils: list[Pupil] = [{} for _ in range(tables.PUPILS)]
    for name, marginal in tables.MARGINALS.items():
        for index, value in _deal(range(tables.PUPILS), marginal, latent[name].__getitem__):
            bounds = tables.LONG_ABSENCES.get(str(value))
            pupils[index][name] = value if bounds is None else _between(random, *bounds)
    return pupils


def _who_left(random: Random, pupils: Sequence[Pupil]) -> list[int]:
    """Choose who left the course; their absences are drawn as everybody's.

    In the real data none of them has an absence on record, which would tell a model who left.
    """

    def draw(index: int) -> float:
        weight = 1.0
        for name, values, odds in tables.LEFT_LIKELIER:
            weight *= odds if pupils[index][name] in values else 1.0
        return -math.log(_open(random)) / weight  # weighted sampling without replacement

    left: list[int] = []
    everybody = range(len(pupils))
    for group, number in _bands(everybody, tables.LEFT, lambda n: pupils[n]["G1"]):
        left += sorted(group, key=draw)[:number]
    return left


def _grades_of_those_who_left(random: Random, pupils: Sequence[Pupil], left: Sequence[int]) -> None:
    order = sorted(left, key=lambda _: _open(random))
    before, after = order[: tables.LEFT_BEFORE_G2], order[tables.LEFT_BEFORE_G2 :]
    for index in before:
        pupils[index]["G2"] = 0
    for index, move in _deal(after, tables.LEFT_MOVES, lambda _: _open(random)):
        pupils[index]["G2"] = _grade(pupils[index]["G1"] + move)
    for index in left:
        pupils[index][TARGET] = 0


def _grades_of_those_who_stayed(
    random: Random,
    pupils: Sequence[Pupil],
    latent: Mapping[str, Sequence[float]],
    stayed: Sequence[int],
) -> None:
    known: dict[str, Sequence[float]] = dict(latent)

    def leaning(leans: Mapping[str, float]) -> Callable[[int], float]:
        rest = math.sqrt(1.0 - sum(lean * lean for lean in leans.values()))
        return lambda n: (
            sum(lean * known[name][n] for name, lean in leans.items()) + rest * _normal(random)
        )

    move = [0.0] * len(pupils)
    for group, moves in _bands(stayed, tables.G2_MOVES, lambda n: pupils[n]["G1"]):
        for n, change in _deal(group, moves, leaning(tables.G2_LEANS)):
            pupils[n]["G2"] = _grade(pupils[n]["G1"] + change)
            move[n] = change / tables.G2_MOVE_SPREAD
    known["move"] = move
    for group, moves in _bands(stayed, tables.G3_MOVES, lambda n: pupils[n]["G2"]):
        for n, change in _deal(group, moves, leaning(tables.G3_LEANS)):
            pupils[n][TARGET] = _grade(pupils[n]["G2"] + change)


def _bands(
    indices: Sequence[int], table: Iterable[tuple[int, V]], grade: Callable[[int], int]
) -> Iterator[tuple[list[int], V]]:
    """Split pupils by a grade at the upper bounds of a table; give each group with its entry."""
    below = -1
    for bound, entry in table:
        yield [n for n in indices if below < grade(n) <= bound], entry
        below = bound


def _deal(
    indices: Iterable[int], weights: Mapping[V, int], score: Callable[[int], float]
) -> list[tuple[int, V]]:
    """Assign values in proportion to their weights, the first values to the lowest scores."""
    order = sorted(indices, key=score)
    total = sum(weights.values())
    exact = {value: len(order) * weight / total for value, weight in weights.items()}
    counts = {value: int(share) for value, share in exact.items()}
    short = len(order) - sum(counts.values())
    for value in sorted(exact, key=lambda v: counts[v] - exact[v])[:short]:
        counts[value] += 1
    values = [value for value, count in counts.items() for _ in range(count)]
    return list(zip(order, values, strict=True))


def _normal(random: Random) -> float:
    return _NORMAL.inv_cdf(_open(random))


def _open(random: Random) -> float:
    """Draw from the open interval (0, 1)."""
    return (random.getrandbits(52) + 0.5) / (1 << 52)


def _between(random: Random, low: int, high: int) -> int:
    return low + int(_open(random) * (high - low + 1))


def _grade(value: int) -> int:
    """Keep a grade of someone who is still there within 1 to 20."""
    return max(1, min(20, value))
