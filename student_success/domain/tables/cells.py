"""What the text of a cell means: titles and choices without case and accents, numbers, references.

Values are validated by the pydantic model, not here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from student_success.domain.references import INVISIBLE, normalise_reference
from student_success.domain.students import FEATURES, GRADE, Feature

UNKNOWN = frozenset({"", "-", "?", "na", "n/a", "nan", "null", "none", "inconnu", "unknown"})
"""Ways to write that a value is not known, normalised."""
_MARKS = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Characters without a visible form that programs put around a number."""
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}([.,][0-9]*)?([eE][+-]?[0-9]{1,3})?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
# East Asian spreadsheets also treat the full-width characters as the start of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_LINE_BREAKS = ("\t", "\r", "\n")
_SCALE = re.compile(
    r"(?:(?<![0-9]{2})/|\bsur\b|\bvon\b|out of|\bmax[a-z]*\b\.?:?|\b[01] ?-) ?([0-9]+([.,][0-9]+)?)"
    r"( ?(points?|pts|punkte))?[)\]]?$"
)
_PERCENT = re.compile("%|percent|pourcent|prozent")
_YEARS = range(1900, 2100)
_MAXIMA = re.compile(
    r"points?( possible)?|(note |points? |marks? )max(imum|imale)?|"
    r"max( ?[.:]|imum| points?| marks?)|bareme|out of|sur|total points"
)
_SHORTENED = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+")
_NAME = re.compile(r"[^\W\d_](?:[^\W\d_]|['’.-])*(?:,? +[^\W\d_](?:[^\W\d_]|['’.-])*)+")
"""Each character can be matched in one way only: no catastrophic backtracking."""
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
    text = text.strip(_MARKS).strip()
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def parse_final_grade(text: str) -> float | int | None:
    """Return the final grade that exists which a text means: 10.30000001 is the grade 10.3."""
    number = parse_number(text)
    return None if number is None else GRADE.existing(number)


def is_shortened(reference: str) -> bool:
    """Tell whether a spreadsheet has shortened a long number to this code: ``1.23E+11``."""
    return _SHORTENED.fullmatch(reference) is not None


def are_names(texts: Sequence[str]) -> bool:
    """Tell whether most texts look like names: two or more words of letters."""
    return 2 * sum(bool(_NAME.fullmatch(text)) for text in texts) > len(texts)


def are_numbers(texts: Sequence[str]) -> bool:
    """Tell whether at least half of the texts are numbers."""
    numbers = sum(parse_number(text) is not None for text in texts)
    return numbers > 0 and 2 * numbers >= len(texts)


def have_other_scale(texts: Sequence[str], low: float, high: float) -> bool:
    """Tell whether a fourth of the grades are outside the scale, or all are parts of 1."""
    numbers = [n for text in texts if (n := parse_number(text)) is not None]
    outside = sum(not low <= n <= high for n in numbers)
    if high > 4 and len(numbers) > 1 and max(numbers) <= 1:
        return any(n % 1 for n in numbers)
    return outside > 1 and 4 * outside >= len(numbers)


def highest_of_title(title: str) -> float | None:
    """Return the highest grade that a title states, such as ``Test (/10)``."""
    words = normalise(title)
    if _PERCENT.search(words):
        return 100
    stated = _SCALE.search(words)
    highest = None if stated is None else parse_number(stated[1])
    return None if highest in _YEARS else highest


def highest_of_line(cells: Sequence[str], index: int) -> float | None:
    """Return the highest grade that a line states for a column: ``/10``, or 10 beside ``Max``."""
    cell = normalise(cells[index]) if index < len(cells) else ""
    stated = _SCALE.match(cell.lstrip("(["))
    if stated is not None:
        return parse_number(stated[1])
    texts = [other for other in cells if other and parse_number(other) is None]
    # A pupil may be called Max.
    is_maxima = len(texts) == 1 and _MAXIMA.fullmatch(normalise(texts[0]))
    return parse_number(cell) if is_maxima else None


def parse_cell(feature: Feature, text: str) -> Any:
    """Convert the text of a cell to the value of a feature; a text that cannot be converted stays.

    A decimal comma counts as a point, 17.0 as 17, and an unknown grade as None.
    """
    stripped = text.strip().strip(_MARKS).strip()
    if stripped in feature.categories:
        return stripped
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
    """Return the value of each way to write a choice: its code, or its text in either language.

    What two choices have in common is left out, so that such a cell is refused.
    """
    feature = feature_of(name)
    found: dict[str, set[Any]] = {}
    for value, text in (feature.about.choices or {}).items():
        for word in (str(value), text.fr, text.en):
            found.setdefault(normalise(word), set()).add(value)
    values = {word: min(meant) for word, meant in found.items() if len(meant) == 1}
    if set(feature.categories) == {"yes", "no"}:
        values |= dict.fromkeys(_YES, "yes") | dict.fromkeys(_NO, "no")
    return values
