"""The features of a pupil, derived from the profile: names, bounds, labels and help.

API validation, the dataset check, the training columns, the web form, the drift reference and the
data dictionary are derived from what is here. A process works with one profile, see `PROFILE_PATH`;
to add a feature, add it to the profile and retrain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from student_success.core.configuration.env_files import profile_path
from student_success.domain.profile import Change, FeatureSpec, Period, Text
from student_success.domain.profile_file import read_profile
from student_success.domain.references import MAX_LENGTH, normalise_optional

PROFILE = read_profile(profile_path())
"""The profile of this process."""
GRADE = PROFILE.grade
SCALE = GRADE.scale
TARGET = GRADE.column
GRADE_MIN, GRADE_MAX = GRADE.minimum, GRADE.maximum
PASS_GRADE, PASS_LEVEL = GRADE.pass_mark, GRADE.pass_level
PREDICTED, BASELINE, ACTUAL = f"predicted_{TARGET}", f"baseline_{TARGET}", f"actual_{TARGET}"
"""Names of the grade in requests and answers: predicted, of the average pupil, obtained."""
PERIODS = tuple(period.column for period in PROFILE.period)
"""Columns of the grades known earlier, the oldest first."""
GRADES_SECTION = "grades"
"""Where a form shows the period grades."""
WITHOUT_NUL = r"^[^\x00]*$"
"""PostgreSQL cannot store NUL in text: one such row would fail the whole group commit."""


class Horizon(StrEnum):
    """Which period grades were known when a prediction was made."""

    _ignore_ = ["_members", "_known"]  # noqa: RUF012 - as `enum` wants it
    _members = vars()
    for _known in range(len(PERIODS) + 1):
        _members[f"KNOWN_{_known}"] = "+".join(PERIODS[:_known]) or "none"


HORIZONS = tuple(Horizon)
"""By the number of period grades known, from none to all."""


@dataclass(frozen=True, slots=True)
class About:
    """How a feature is presented: label, help, section of a form, and choices."""

    label: Text
    help: Text
    group: str
    choices: Mapping[Any, Text] | None = None

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the English label and help to the JSON schema."""
        schema = handler(core_schema)
        return schema | {"title": self.label.en, "description": self.help.en}


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature as the model, the form and the dataset check see it.

    Attributes
    ----------
    kind
        ``"category"`` (one of `categories`), ``"integer"`` or ``"number"`` (within bounds).
    nullable
        Whether the value may be unknown.
    is_period
        Whether it is a grade known earlier in the year.
    log
        Whether a model takes its logarithm: a count with a long tail.
    change
        How the pupil or the school can change it; None if they cannot.
    monotone
        ``"raises"`` or ``"lowers"``: the only way in which a larger value may move a prediction,
        towards the better or the worse end of the scale; of a period grade a better one.
    also
        Further titles that it may have in a table.
    """

    name: str
    kind: Literal["category", "integer", "number"]
    about: About
    nullable: bool
    categories: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    is_period: bool = False
    log: bool = False
    change: Change | None = None
    monotone: Literal["raises", "lowers"] | None = None
    also: tuple[str, ...] = ()

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of a number."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def is_best(self, value: Any) -> bool:
        """Return whether no value can be better, as far as the profile declares it."""
        change = self.change
        if self.kind == "category":
            # Of several choices another one might be better.
            return change is not None and tuple(change.to) == (value,)
        if self.monotone is not None:
            # Where lower grades are better, the best grade of a period is its lowest.
            larger = (self.monotone == "raises") != (self.is_period and SCALE.sign < 0)
        elif change is not None and change.better is not None:
            larger = change.better == "higher"
        else:
            return False
        return bool(value == (self.high if larger else self.low))

    def is_reason(self, value: Any, share: float) -> bool:
        """Return whether the effect of a value on a prediction is shown as a reason.

        `share` is the effect in grades. A small effect is not a reason, nor is a worse grade for a
        value that cannot be better: pupils who get help often need it, and it is not the cause.
        """
        if abs(share) < SCALE.smallest_share:
            return False
        return SCALE.sign * share > 0 or not self.is_best(value)

    def public(self) -> dict[str, Any]:
        """Return bounds, choices, labels and help as JSON-ready values."""
        about, choices = self.about, self.about.choices
        return {
            "kind": self.kind,
            "nullable": self.nullable,
            "minimum": self.low,
            "maximum": self.high,
            "categories": list(self.categories),
            "group": about.group,
            "labels": about.label.model_dump(),
            "help": about.help.model_dump(),
            "choices": None
            if choices is None
            else {str(value): text.model_dump() for value, text in choices.items()},
        }


def _feature(spec: FeatureSpec) -> Feature:
    choices = {choice.value: Text(fr=choice.fr, en=choice.en) for choice in spec.choices}
    return Feature(
        spec.column,
        spec.kind,
        About(spec.label, spec.help or spec.label, spec.section, choices or None),
        spec.nullable,
        categories=tuple(map(str, choices)) if spec.kind == "category" else (),
        low=spec.minimum,
        high=spec.maximum,
        log=spec.scale == "log",
        change=spec.change,
        monotone=spec.monotone,
        also=spec.also,
    )


def _period(spec: Period) -> Feature:
    low = GRADE_MIN if spec.minimum is None else spec.minimum
    high = GRADE_MAX if spec.maximum is None else spec.maximum
    return Feature(
        spec.column,
        "number",
        About(spec.label, spec.help or spec.label, GRADES_SECTION),
        nullable=True,
        low=low,
        high=high,
        is_period=True,
        # Another scale may have another better end: nothing is declared for it.
        monotone="raises" if (low, high) == (GRADE_MIN, GRADE_MAX) else None,
        also=spec.also,
    )


FEATURES: tuple[Feature, ...] = (
    *map(_feature, PROFILE.feature),
    *map(_period, PROFILE.period),
)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
CATEGORICAL: tuple[str, ...] = tuple(f.name for f in FEATURES if f.kind == "category")
NUMERIC: tuple[str, ...] = tuple(f.name for f in FEATURES if f.kind != "category")


def _usual(feature: Feature) -> str | int | float:
    """Return a value in the middle."""
    if feature.kind == "category":
        return feature.categories[0]
    middle = sum(feature.bounds) / 2
    return round(middle) if feature.kind == "integer" else middle


EXAMPLE: dict[str, Any] = {f.name: PROFILE.example.get(f.name, _usual(f)) for f in FEATURES}
"""An example pupil."""


def _whole(value: object) -> object:
    """Convert 17.0 to the integer 17; leave everything else to strict validation."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value


Whole = BeforeValidator(_whole)


def _field(feature: Feature) -> tuple[Any, Any]:
    """Return type and default of a field of `StudentFeatures`."""
    # What is not recorded of everybody may be left out; the rest has to be said, if only as null.
    optional = feature.nullable and feature.name in PROFILE.training.unrecorded_when_not_finished
    default = None if feature.is_period or optional else ...
    if feature.kind == "category":
        kind: Any = Literal[feature.categories]
        checks: list[Any] = []
    elif feature.kind == "integer":
        low, high = feature.bounds
        kind, checks = int, [Ge(int(low)), Le(int(high)), Whole]
    else:
        kind, checks = float, [Field(ge=feature.low, le=feature.high, allow_inf_nan=False)]
    if feature.nullable:
        kind = kind | None
    if feature.kind == "number":
        # The bounds belong to the number, one level down from the text about it.
        return Annotated[Annotated[kind, *checks], feature.about], default
    return Annotated[kind, *checks, feature.about], default


_REFERENCE = Annotated[
    str | None,
    Field(
        max_length=MAX_LENGTH,
        pattern=WITHOUT_NUL,
        description="An opaque string by which the caller knows the pupil; never a name.",
    ),
    AfterValidator(normalise_optional),
]
_fields: dict[str, Any] = {feature.name: _field(feature) for feature in FEATURES}
_Fields: Any = create_model("_Fields", **_fields, reference=(_REFERENCE, None))


class StudentFeatures(_Fields):
    """What is known of one pupil: features, period grades, and an optional opaque reference.

    JSON types are strict: ``"17"``, ``true`` or ``17.5`` for an integer, NaN, an infinity or an
    unknown field are errors; ``17.0`` counts as the integer 17. Grades not known yet are ``null``
    or absent; a later one without an earlier one is an error.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [dict(EXAMPLE)]},
    )

    if TYPE_CHECKING:
        reference: str | None

    @model_validator(mode="after")
    def _grades_come_in_order(self) -> StudentFeatures:
        values = self.__dict__
        for earlier, later in pairwise(PERIODS):
            if values[later] is not None and values[earlier] is None:
                raise PydanticCustomError(
                    "grades_out_of_order",
                    "{later} is given but {earlier} is not: give both, {earlier} alone, or neither",
                    {"later": later, "earlier": earlier},
                )
        return self

    @property
    def horizon(self) -> Horizon:
        """Which period grades are known."""
        values = self.__dict__
        return HORIZONS[sum(values[name] is not None for name in PERIODS)]
