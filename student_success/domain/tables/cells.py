"""What the text of a cell means: titles and choices without case and accents, numbers, references.

Values are validated by the pydantic model, not here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Any

from student_success.domain.references import INVISIBLE, normalise_reference
from student_success.domain.students import FEATURES, Feature

UNKNOWN = frozenset({"", "-", "?", "na", "n/a", "nan", "null", "none", "inconnu", "unknown"})
"""Ways to write that a value is not known, normalised."""
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}([.,][0-9]*)?([eE][+-]?[0-9]{1,3})?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
# East Asian spreadsheets also treat the full-width characters as the start of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_LINE_BREAKS = ("\t", "\r", "\n")
_YES = {"y", "o", "1", "true", "vrai", "x", "✓", "✔"}
_NO = {"n", "0", "false", "faux"}


def normalise(word: str) -> str:
    """Return a word without case, accents and surrounding blanks, for comparison."""
    word = INVISIBLE.sub("", word).replace("–", "-").replace("’", "'")
    plain = unicodedata.normalize("NFKD", word)
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).casefold().split())


def text_of(value: object) -> str:
    """Return a value of a spreadsheet or a Parquet file as a person would write it."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def parse_reference(text: str) -> str:
    """Return the reference that a cell holds, or "".

    The apostrophe that `escape_formula` puts before a formula is not part of it.
    """
    reference = normalise_reference(text)
    return reference and unescape_formula(reference)


def escape_formula(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def unescape_formula(text: str) -> str:
    """Return the text that `escape_formula` was given."""
    return text[1:] if text.startswith("'") and _is_formula(text.lstrip("'")) else text


def _is_formula(text: str) -> bool:
    # Blanks and invisible characters before a formula do not stop a spreadsheet.
    visible = next((i for i, c in enumerate(text) if unicodedata.category(c)[0] not in "ZC"), 0)
    return text.startswith(_LINE_BREAKS) or text.startswith(_FORMULA_STARTS, visible)


def parse_number(text: str) -> float | None:
    """Return the number that a text certainly means, with a decimal point or comma; else None."""
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def parse_cell(feature: Feature, text: str) -> Any:
    """Convert the text of a cell to the value of a feature; a text that cannot be converted stays.

    A decimal comma counts as a point, 17.0 as 17, and an unknown grade as None.
    """
    stripped = text.strip()
    chosen = normalise(stripped)
    choices = _choices(feature.name)
    if chosen.endswith((".0", ",0")) and chosen[:-2] in choices:
        chosen = chosen[:-2]
    if chosen in choices:
        return choices[chosen]
    if feature.nullable and chosen in UNKNOWN:
        return None
    if feature.kind == "category":
        return stripped
    number = parse_number(stripped)
    if number is None:
        return stripped
    if _THOUSANDS.fullmatch(stripped):
        # 1.500 may mean 1,500: refused where a whole number is expected, or where both fit.
        other = number * 1000
        if feature.kind == "integer" or (feature.high is not None and other <= feature.high):
            return stripped
    if feature.kind == "integer" and number.is_integer() and abs(number) < 1e9:
        return int(number)
    return number


@cache
def feature_of(name: str) -> Feature:
    """Return the feature with a name."""
    return next(feature for feature in FEATURES if feature.name == name)


@cache
def _choices(name: str) -> Mapping[str, Any]:
    """Return the value of each way to write a choice: its code, or its text in either language."""
    feature = feature_of(name)
    values: dict[str, Any] = {normalise(code): code for code in feature.categories}
    for value, text in (feature.about.choices or {}).items():
        for word in (str(value), text.fr, text.en):
            values[normalise(word)] = value
    if set(feature.categories) == {"yes", "no"}:
        values |= dict.fromkeys(_YES, "yes") | dict.fromkeys(_NO, "no")
    return values
