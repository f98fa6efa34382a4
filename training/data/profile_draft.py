"""Propose a profile for a table of pupils, with the reason of each guess as a comment."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from student_success.core.errors import ConfigurationError, DatasetError
from student_success.domain.profile import RESERVED, Profile
from student_success.domain.profile_file import parse_profile
from student_success.domain.scale import Scale
from student_success.domain.tables.reader import read_bytes
from training.data.column_guess import (
    Column,
    bounds,
    columns_of,
    guess_not_finished,
    guess_pass_mark,
    guess_scale,
    has_long_tail,
    is_earlier,
    is_reference,
    is_sensitive,
    left_out,
    period_scale,
)
from training.data.csv_table import read_text_columns

MAX_FEATURES, MAX_PERIODS = 200, 8
LEAVERS = 10
"""Fewer pupils who left do not show which columns are not recorded for them."""


@dataclass(slots=True)
class Plan:
    """What each column of the table becomes, each with a reason."""

    features: list[Column] = field(default_factory=list)
    periods: list[tuple[Column, tuple[float, float] | None, str]] = field(default_factory=list)
    audit: list[Column] = field(default_factory=list)
    reference: Column | None = None
    skipped: list[tuple[Column, str]] = field(default_factory=list)


def draft(
    source: Path,
    target: str,
    destination: Path,
    *,
    pass_mark: float | None = None,
    better: str | None = None,
    overwrite: bool = False,
) -> Profile:
    """Read a table and write a profile that fits it.

    Parameters
    ----------
    target
        Title of the column with the final grade.
    pass_mark, better
        Guessed if None.
    overwrite
        Replace `destination` if it exists.

    Raises
    ------
    DatasetError
        If the table cannot be read, or no profile can be made of it.
    ConfigurationError
        If the profile exists or cannot be written, or the pass mark is no grade.
    """
    columns = columns_of(read_text_columns(source.name, read_bytes(source)))
    chosen = _target(source.name, columns, target)
    text = "\n".join(_lines(source, chosen, columns, pass_mark=pass_mark, better=better)) + "\n"
    profile = parse_profile(destination.name, text)
    try:
        with destination.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(
            f"{destination.name} exists and was not changed. Choose another name, or replace it "
            "with --overwrite."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{destination.name} cannot be written: {error.strerror}."
        ) from error
    return profile


def _target(name: str, columns: Sequence[Column], title: str) -> Column:
    for column in columns:
        if _plain(column.title) == _plain(title):
            return column
    raise DatasetError(
        f"{name} has no column {title}. Its columns: {', '.join(c.title for c in columns)}."
    )


def _lines(
    source: Path,
    target: Column,
    columns: Sequence[Column],
    *,
    pass_mark: float | None,
    better: str | None,
) -> Iterator[str]:
    others = [column for column in columns if column is not target]
    guessed = guess_scale(target, better=better, others=others)
    scale = Scale(**{key: value for key, (value, _) in guessed.items() if key != "rounded"})
    assert target.numbers is not None
    grades = target.numbers.dropna()
    names = _names([target, *others])
    plan = _plan(target, others, scale)
    if not plan.features:
        raise DatasetError(
            f"No column of {source.name} can be a feature: a profile needs one or more. "
            + " ".join(f"{column.title}: {reason}." for column, reason in plan.skipped)
        )
    school = re.sub(r"[^a-z0-9]+", "-", _ascii(source.stem).lower()).strip("-")[:40] or "school"
    yield f"# Drafted from {_comment(source.name)}. Each guess has its reason beside it."
    yield "# Correct what is wrong, then run: student-success profile check THIS-FILE TABLE"
    yield from ("", "format = 1", f"name = {_toml(school)}", f"title = {_toml(source.stem)}", "")
    yield "[grade]"
    yield from _named(target, names)
    for key, (value, reason) in guessed.items():
        yield f"{key} = {_toml(value)}  # {reason}"
    if pass_mark is None:
        mark, reason = guess_pass_mark(grades, scale)
    else:
        mark, reason = pass_mark, "as given"
    passed = (grades >= mark) if scale.sign > 0 else (grades <= mark)
    yield f"pass_mark = {_toml(mark)}  # {reason}; {passed.mean():.0%} of the pupils reach it"
    unfinished = guess_not_finished(grades, scale)
    if unfinished is not None:
        yield f"not_finished = {_toml(unfinished[0])}  # {unfinished[1]}: they seem to have left"
    for period, ends, reason in plan.periods:
        yield from ("", "[[period]]", f"# {reason}", *_named(period, names))
        if ends is not None:
            yield from (f"minimum = {_toml(ends[0])}", f"maximum = {_toml(ends[1])}")
    yield from (
        "",
        "[[section]]",
        'name = "pupil"',
        'label = { fr = "L\'élève", en = "The pupil" }',
    )
    for feature in plan.features:
        yield from ("", "[[feature]]", *_named(feature, names), *_feature(feature))
    if unfinished is not None:
        left = target.numbers == unfinished[0]
        if unrecorded := [c for c in plan.features if _is_unrecorded(c, left)]:
            yield from ("", "[training]", "# The same for all who left, and rare among the others:")
            listed = ", ".join(_toml(names[column.title]) for column in unrecorded)
            yield f"unrecorded_when_not_finished = [{listed}]"
    if plan.audit:
        yield from ("", "[audit]", "# Their titles are sensitive: they show whether the groups are")
        yield "# treated alike, and no model learns from them."
        yield f"columns = [{', '.join(_toml(column.title) for column in plan.audit)}]"
    if plan.reference is not None:
        yield from ("", "[reference]", "# No value occurs twice: it seems to tell pupils apart.")
        yield f"also = [{_toml(plan.reference.title)}]"
    if plan.skipped:
        yield from ("", "# Columns that are not used:")
        yield from (f"# {_comment(column.title)}: {reason}" for column, reason in plan.skipped)


def _plan(target: Column, others: Sequence[Column], scale: Scale) -> Plan:
    assert target.numbers is not None
    plan = Plan()
    known_before = pd.Series(True, index=target.text.index)
    earlier_first = sorted(others, key=lambda column: not is_earlier(column))
    for column in earlier_first:
        ends = period_scale(column, target.numbers, scale.minimum, scale.maximum)
        if is_sensitive(column):
            plan.audit.append(column)
        elif reason := left_out(column, target.numbers):
            if plan.reference is None and is_reference(column):
                plan.reference = column
            else:
                plan.skipped.append((column, reason))
        elif is_reference(column):
            if plan.reference is None:
                plan.reference = column
            else:
                plan.skipped.append((column, "no value occurs twice, as in a reference"))
        elif (
            ends is not None
            and len(plan.periods) < MAX_PERIODS
            and (known_before | column.unknown).all()
        ):
            known_before = ~column.unknown
            plan.periods.append((column, *ends))
        elif len(plan.features) < MAX_FEATURES:
            plan.features.append(column)
        else:
            plan.skipped.append((column, f"a profile has at most {MAX_FEATURES} features"))
    return plan


def _feature(column: Column) -> Iterator[str]:
    if column.numbers is None:
        values = column.values
        yield f'kind = "category"  # {len(values)} different texts'
        yield f"choices = [{', '.join(map(_toml, values))}]"
    else:
        kind = "integer" if column.is_whole else "number"
        low, high, reason = bounds(column)
        yield f"kind = {_toml(kind)}"
        yield f"minimum = {_toml(low)}  # {reason}"
        yield f"maximum = {_toml(high)}"
        if low >= 0 and has_long_tail(column):
            yield 'scale = "log"  # a few values are far larger than the others'
        if column.is_harmful:
            yield '# monotone = "lowers"  # uncomment it if more can only mean a worse grade'
    yield 'section = "pupil"'
    if empty := int(column.unknown.sum()):
        yield f"nullable = true  # {empty} cells are empty"


def _is_unrecorded(column: Column, left: pd.Series[bool]) -> bool:
    """Return whether all who left have one value that few others have."""
    if int(left.sum()) < LEAVERS:
        return False
    values = set(column.text[left & ~column.unknown])
    if len(values) != 1:
        return False
    others = column.text[~left & ~column.unknown]
    return float(others.isin(values).mean()) < 0.6


def _named(column: Column, names: dict[str, str]) -> Iterator[str]:
    name = names[column.title]
    yield f"column = {_toml(name)}"
    words = " ".join(column.title.replace("_", " ").split())
    yield f"label = {_toml(words[:1].upper() + words[1:])}"
    if name != column.title:
        yield f"also = [{_toml(column.title)}]  # its title in the table; a column has a plain name"


def _names(columns: Sequence[Column]) -> dict[str, str]:
    """Return a legal and unused column name for each title."""
    names: dict[str, str] = {}
    # A name that is a title of another column would be taken for that one.
    titles = {_plain(column.title) for column in columns}
    for column in columns:
        name = column.title
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name) or name in RESERVED:
            base = re.sub(r"[^A-Za-z0-9]+", "_", _ascii(name)).strip("_")[:34] or "column"
            base = base if base[0].isalpha() and base not in RESERVED else f"c_{base}"
            name, number = base, 2
            while _plain(name) in titles or name in names.values():
                name, number = f"{base}_{number}", number + 1
        names[column.title] = name
    return names


def _plain(title: str) -> str:
    return " ".join(title.split()).casefold()


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _comment(text: str) -> str:
    return " ".join(text.split())


def _toml(value: Any) -> str:
    """Write a value as TOML; a string of JSON is one of TOML."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return json.dumps(value, ensure_ascii=False)
