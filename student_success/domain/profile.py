"""The profile: everything that is particular to one school.

It says what is predicted and on which scale, which grades come before, which features a pupil has
and what people call them.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from student_success.domain.scale import Scale

RESERVED = {"reference", "last", "trend", "known", "none", "session_id", "horizon", "cls"}
RESERVED |= {name for name in dir(BaseModel) if name.startswith("model_")}
"""Names that the program itself uses beside the columns, or pydantic for the model of a pupil."""
SENSITIVE = re.compile(
    r"sex|gender|ethnic|religio|nationalit|disab|handicap"
    r"|(?<![a-z])(genre|male|female|girl|boy|fille|gar[cç]on|race|racial|black|white|hispanic|latino"
    r"|asian|minority|immigrant|migrant|foreign|[ée]trang[eè]re?)(?![a-z])",
    re.I,
)
"""Columns of which a warning says that they belong into `[audit]`."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]
Column = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=40)]
Kind = Literal["integer", "number", "category"]
Direction = Literal["higher", "lower"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Text(_Part):
    """One text in both languages; English stands in for a missing French one."""

    fr: str = Field("", max_length=500)
    en: str = Field(min_length=1, max_length=500)

    @model_validator(mode="after")
    def _english_stands_in(self) -> Self:
        # Frozen: set before anyone has seen it.
        if not self.fr:
            self.__dict__["fr"] = self.en
        return self


def _text(value: object) -> object:
    return {"en": value} if isinstance(value, str) else value


Words = Annotated[Text, BeforeValidator(_text)]
"""A text in both languages, or one string for both."""


class Choice(Text):
    """One value that a feature can take, and what people call it."""

    value: str | int


def _choice(value: object) -> object:
    return {"value": value, "en": str(value)} if isinstance(value, str | int) else value


class GradeSpec(_Part):
    """What is predicted, and its scale."""

    column: Column
    label: Words
    minimum: float
    maximum: float
    step: float = Field(1, gt=0)
    pass_mark: float
    better: Direction = "higher"
    not_finished: float | None = None
    rounded: bool = False
    also: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_a_scale(self) -> Self:
        scale = self.scale
        for name in ("pass_mark", "not_finished"):
            if (grade := getattr(self, name)) is not None and not scale.has(grade):
                raise ValueError(
                    f"{name} is {grade:g}, which is no grade of this scale: {self.minimum:g}, "
                    f"{self.minimum + self.step:g}, … {self.maximum:g}"
                )
        if self.pass_level == 0:
            raise ValueError("pass_mark is the worst grade, so everyone would pass")
        if self.not_finished is not None and scale.level(self.not_finished) != 0:
            raise ValueError("not_finished must be the worst grade of the scale")
        return self

    @cached_property
    def scale(self) -> Scale:
        """The grades that exist."""
        return Scale(self.minimum, self.maximum, self.step, self.better)

    def existing(self, grade: float) -> float | int | None:
        """Return a final grade as the scale has it; None if the scale does not have it.

        With `rounded` that is the nearest, half to the better, within the bounds of the scale; but
        a pupil who finished gets no grade that stands for having left.
        """
        exists = self.scale.has(grade)
        if not exists and not (self.rounded and self.minimum <= grade <= self.maximum):
            return None
        lowest = 0 if exists or self.not_finished is None else 1
        return self.scale.grade(max(lowest, self.scale.nearest(grade)))

    @property
    def pass_level(self) -> int:
        """The level of the pass mark, see `Scale`."""
        return self.scale.nearest(self.pass_mark)


class Period(_Part):
    """A grade known earlier in the year; its bounds are those of the grade unless given."""

    column: Column
    label: Words
    help: Words | None = None
    minimum: float | None = None
    maximum: float | None = None
    also: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if (self.minimum is None) != (self.maximum is None):
            raise ValueError("give both minimum and maximum, or neither")
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError("minimum must be below maximum")
        return self


class Section(_Part):
    """A part of a form."""

    name: Name
    label: Words


class Change(_Part):
    """How a pupil or the school can change a feature: towards `better`, or to some choices."""

    step: float = Field(1, gt=0)
    better: Direction | None = None
    to: tuple[str, ...] = ()


class FeatureSpec(_Part):
    """One feature of a pupil."""

    column: Column
    kind: Kind
    section: Name
    label: Words
    help: Words | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Annotated[Choice, BeforeValidator(_choice)], ...] = Field((), max_length=500)
    nullable: bool = False
    scale: Literal["linear", "log"] = "linear"
    change: Change | None = None
    monotone: Literal["raises", "lowers"] | None = None
    also: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        values = [choice.value for choice in self.choices]
        if self.kind == "category":
            if len(values) < 2 or not all(isinstance(value, str) for value in values):
                raise ValueError("a category needs two or more choices, each a text")
            if self.minimum is not None or self.maximum is not None:
                raise ValueError("a category has choices, no minimum or maximum")
            if self.scale == "log" or self.monotone:
                raise ValueError("scale and monotone are for numbers, not for a category")
        else:
            if self.minimum is None or self.maximum is None or self.minimum >= self.maximum:
                raise ValueError("a number needs a minimum below its maximum")
            if self.kind == "integer" and (self.minimum % 1 or self.maximum % 1):
                raise ValueError("the bounds of whole numbers must be whole")
            if not all(isinstance(value, int) for value in values):
                raise ValueError("the choices of a number must be whole numbers, without quotes")
            if any(not self.minimum <= float(value) <= self.maximum for value in values):
                raise ValueError("a choice lies outside minimum and maximum")
            if self.scale == "log" and self.minimum < 0:
                raise ValueError("a logarithmic scale needs a minimum of 0 or more")
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"the choice {twice[0]} is given twice")
        if self.change and set(self.change.to) - {v for v in values if self.kind == "category"}:
            raise ValueError("change: each value of `to` must be a choice of a category")
        return self


class Training(_Part):
    """What a training has to know beside the columns."""

    unrecorded_when_not_finished: tuple[Column, ...] = ()


class Gate(_Part):
    """Absolute limits of a promotion, on this scale; without them only the comparisons decide."""

    max_mae: float | None = Field(None, gt=0)
    min_r2: float | None = Field(None, le=1)


class Group(_Part):
    """What people call an audit column, and the groups of pupils that its values make."""

    column: str
    label: Words
    choices: tuple[Annotated[Choice, BeforeValidator(_choice)], ...] = Field((), max_length=500)


class Audit(_Part):
    """Columns that are never features: they show whether anybody is treated worse."""

    columns: tuple[Annotated[str, Field(min_length=1, max_length=80)], ...] = ()
    group: tuple[Group, ...] = ()


class Reference(_Part):
    """The column that holds the opaque reference."""

    also: tuple[str, ...] = ()


class Profile(_Part):
    """Everything that is particular to one school."""

    format: Literal[1]
    name: Name
    title: Words
    description: Words | None = None
    grade: GradeSpec
    period: tuple[Period, ...] = Field((), max_length=8)
    section: tuple[Section, ...] = Field(min_length=1)
    feature: tuple[FeatureSpec, ...] = Field(min_length=1, max_length=200)
    training: Training = Training()
    gate: Gate = Gate()
    audit: Audit = Audit()
    reference: Reference = Reference()
    example: dict[str, str | int | float | None] = {}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        used = Counter((*self.columns, self.grade.column, *self.audit.columns))
        if twice := [name for name, count in used.items() if count > 1]:
            raise ValueError(f"the column {twice[0]} is used twice")
        if taken := sorted(RESERVED.intersection(used)):
            raise ValueError(f"the program itself uses the name {taken[0]}: rename that column")
        sections = Counter(section.name for section in self.section)
        if twice := [name for name, count in sections.items() if count > 1]:
            raise ValueError(f"the section {twice[0]} is given twice")
        if lost := [feature for feature in self.feature if feature.section not in sections]:
            raise ValueError(f"{lost[0].column}: there is no section {lost[0].section}")
        features = {feature.column for feature in self.feature}
        if unknown := sorted(set(self.training.unrecorded_when_not_finished) - features):
            raise ValueError(f"unrecorded_when_not_finished: there is no feature {unknown[0]}")
        if unknown := sorted({group.column for group in self.audit.group} - {*self.audit.columns}):
            raise ValueError(f"audit: {unknown[0]} has a name, but is not one of its columns")
        if unknown := sorted(self.example.keys() - set(self.columns)):
            raise ValueError(f"example: there is no feature or period {unknown[0]}")
        if len("+".join(period.column for period in self.period)) > 200:
            raise ValueError("the columns of the periods are too long together: 200 characters")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the features, then of the periods."""
        return (*(f.column for f in self.feature), *(p.column for p in self.period))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but seldom meant."""
        return tuple(
            f"{feature.column} looks sensitive: a model should not use it. Move it to [audit] to "
            "see whether the groups are treated alike."
            for feature in self.feature
            if SENSITIVE.search(feature.column)
        )

    def public(self) -> dict[str, Any]:
        """Return name, title, grade and periods as JSON-ready values for ``GET /model``."""
        return {
            "name": self.name,
            "title": self.title.model_dump(),
            "grade": self.grade.model_dump(exclude={"also"}),
            "periods": [period.model_dump(exclude={"also", "help"}) for period in self.period],
        }
