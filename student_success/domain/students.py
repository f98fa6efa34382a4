"""The features of a pupil: names, bounds, labels and help.

API validation, the dataset check, the training columns, the web form, the drift reference and
the data dictionary are derived from `StudentFeatures`. To add a feature, add a field here and
retrain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

GRADE_MIN = 0.0
GRADE_MAX = 20.0
TARGET = "G3"
WITHOUT_NUL = r"^[^\x00]*$"
"""PostgreSQL cannot store NUL in text: one such row would fail the whole group commit."""


class Horizon(StrEnum):
    """Which period grades were known when a prediction was made."""

    NONE = "none"
    G1 = "G1"
    G1_G2 = "G1+G2"


HORIZONS = tuple(Horizon)
"""By the number of period grades known: none, the first, both."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text in both languages."""

    fr: str
    en: str


@dataclass(frozen=True, slots=True)
class About:
    """How a feature is presented: label, help, group on the form, and choices."""

    label: Text
    help: Text
    group: Literal["school", "situation", "support", "life", "grades"]
    choices: Mapping[Any, Text] | None = None

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the English label and help to the JSON schema."""
        schema = handler(core_schema)
        return schema | {"title": self.label.en, "description": self.help.en}


def _whole(value: object) -> object:
    """Convert 17.0 to the integer 17; leave everything else to strict validation."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value


Whole = BeforeValidator(_whole)
Grade = Annotated[
    float | None,
    Field(ge=GRADE_MIN, le=GRADE_MAX, allow_inf_nan=False),
]
YesNo = Literal["yes", "no"]

_YES_NO = {"yes": Text("oui", "yes"), "no": Text("non", "no")}
_LOW_HIGH = {
    1: Text("1 – très peu", "1 – very low"),
    2: Text("2 – peu", "2 – low"),
    3: Text("3 – moyen", "3 – medium"),
    4: Text("4 – beaucoup", "4 – high"),
    5: Text("5 – énormément", "5 – very high"),
}


EXAMPLE: dict[str, Any] = {
    "school": "GP",
    "age": 17,
    "reason": "course",
    "nursery": "yes",
    "traveltime": 2,
    "studytime": 2,
    "failures": 0,
    "schoolsup": "no",
    "famsup": "yes",
    "paid": "no",
    "activities": "no",
    "higher": "yes",
    "freetime": 3,
    "goout": 3,
    "absences": 2,
    "G1": 10.0,
    "G2": 9.8,
}
"""An example pupil."""


class StudentFeatures(BaseModel):
    """What is known of one pupil: 17 features, and an optional opaque reference.

    JSON types are strict: ``"17"``, ``true`` or ``17.5`` for an integer, NaN, an infinity or an
    unknown field are errors; ``17.0`` counts as the integer 17. Grades not known yet are ``null``
    or absent: G2, or both. G2 without G1 is an error.

    Source of the features and their codes: Cortez and Silva (2008), UCI data set 320.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [dict(EXAMPLE)]},
    )

    school: Annotated[
        Literal["GP", "MS"],
        About(
            Text("Établissement", "School"),
            Text("L'établissement que fréquente l'élève.", "The school the pupil attends."),
            "school",
            {
                "GP": Text("Gabriel Pereira", "Gabriel Pereira"),
                "MS": Text("Mousinho da Silveira", "Mousinho da Silveira"),
            },
        ),
    ]
    age: Annotated[
        int,
        Ge(15),
        Le(22),
        Whole,
        About(Text("Âge", "Age"), Text("En années, de 15 à 22.", "In years, 15 to 22."), "school"),
    ]
    reason: Annotated[
        Literal["course", "home", "reputation", "other"],
        About(
            Text("Raison du choix de l'établissement", "Reason for choosing the school"),
            Text(
                "Ce qui a le plus compté dans le choix de l'établissement.",
                "What counted most in choosing the school.",
            ),
            "school",
            {
                "course": Text("les cours proposés", "the courses offered"),
                "home": Text("proche de la maison", "close to home"),
                "reputation": Text("la réputation", "its reputation"),
                "other": Text("autre", "other"),
            },
        ),
    ]
    nursery: Annotated[
        YesNo,
        About(
            Text("École maternelle", "Nursery school"),
            Text("L'élève est allé à l'école maternelle.", "The pupil attended nursery school."),
            "situation",
            _YES_NO,
        ),
    ]
    traveltime: Annotated[
        int,
        Ge(1),
        Le(4),
        Whole,
        About(
            Text("Temps de trajet", "Travel time"),
            Text("De la maison à l'école, un aller.", "From home to school, one way."),
            "situation",
            {
                1: Text("moins de 15 min", "under 15 min"),
                2: Text("15 à 30 min", "15 to 30 min"),
                3: Text("30 min à 1 h", "30 min to 1 h"),
                4: Text("plus d'une heure", "over 1 h"),
            },
        ),
    ]
    studytime: Annotated[
        int,
        Ge(1),
        Le(4),
        Whole,
        About(
            Text("Temps d'étude", "Study time"),
            Text("Travail personnel par semaine.", "Personal work per week."),
            "life",
            {
                1: Text("moins de 2 h", "under 2 h"),
                2: Text("2 à 5 h", "2 to 5 h"),
                3: Text("5 à 10 h", "5 to 10 h"),
                4: Text("plus de 10 h", "over 10 h"),
            },
        ),
    ]
    failures: Annotated[
        int,
        Ge(0),
        Le(4),
        Whole,
        About(
            Text("Échecs passés", "Past failures"),
            Text(
                "Nombre de classes déjà échouées ; 4 veut dire quatre ou plus.",
                "Number of past class failures; 4 means four or more.",
            ),
            "situation",
        ),
    ]
    schoolsup: Annotated[
        YesNo,
        About(
            Text("Soutien scolaire de l'établissement", "Support from the school"),
            Text(
                "L'établissement donne à l'élève un soutien supplémentaire.",
                "The school gives the pupil extra educational support.",
            ),
            "support",
            _YES_NO,
        ),
    ]
    famsup: Annotated[
        YesNo,
        About(
            Text("Soutien de la famille", "Support from the family"),
            Text(
                "La famille aide l'élève dans son travail scolaire.",
                "The family helps the pupil with school work.",
            ),
            "support",
            _YES_NO,
        ),
    ]
    paid: Annotated[
        YesNo,
        About(
            Text("Cours particuliers payants", "Paid extra classes"),
            Text(
                "L'élève suit des cours payants dans la matière.",
                "The pupil takes paid extra classes in the subject.",
            ),
            "support",
            _YES_NO,
        ),
    ]
    activities: Annotated[
        YesNo,
        About(
            Text("Activités extrascolaires", "Extra-curricular activities"),
            Text(
                "Sport, musique, association ou autre activité.",
                "Sport, music, a club or another activity.",
            ),
            "life",
            _YES_NO,
        ),
    ]
    higher: Annotated[
        YesNo,
        About(
            Text("Souhaite faire des études supérieures", "Wants higher education"),
            Text(
                "L'élève veut poursuivre après le secondaire.",
                "The pupil wants to study on after secondary school.",
            ),
            "situation",
            _YES_NO,
        ),
    ]
    freetime: Annotated[
        int,
        Ge(1),
        Le(5),
        Whole,
        About(
            Text("Temps libre", "Free time"),
            Text("Temps libre après l'école.", "Free time after school."),
            "life",
            _LOW_HIGH,
        ),
    ]
    goout: Annotated[
        int,
        Ge(1),
        Le(5),
        Whole,
        About(
            Text("Sorties", "Going out"),
            Text("Sorties avec des amis.", "Going out with friends."),
            "life",
            _LOW_HIGH,
        ),
    ]
    absences: Annotated[
        int,
        Ge(0),
        Le(365),
        Whole,
        About(
            Text("Absences", "Absences"),
            Text("Nombre d'absences depuis la rentrée.", "Number of absences this school year."),
            "situation",
        ),
    ]
    G1: Annotated[
        Grade,
        About(
            Text("Note de la 1re période (G1)", "First-period grade (G1)"),
            Text(
                "Sur 20 ; vide tant qu'elle n'est pas connue.",
                "Out of 20; empty while it is not known yet.",
            ),
            "grades",
        ),
    ] = None
    G2: Annotated[
        Grade,
        About(
            Text("Note de la 2e période (G2)", "Second-period grade (G2)"),
            Text(
                "Sur 20 ; vide tant qu'elle n'est pas connue.",
                "Out of 20; empty while it is not known yet.",
            ),
            "grades",
        ),
    ] = None
    reference: Annotated[
        str | None,
        Field(
            max_length=64,
            pattern=WITHOUT_NUL,
            description="An opaque string by which the caller knows the pupil; never a name.",
        ),
    ] = None

    @model_validator(mode="after")
    def _grades_come_in_order(self) -> StudentFeatures:
        if self.G2 is not None and self.G1 is None:
            raise PydanticCustomError(
                "grades_out_of_order", "G2 is given but G1 is not: give both, G1 alone, or neither"
            )
        return self

    @property
    def horizon(self) -> Horizon:
        """Which period grades are known."""
        if self.G2 is not None:
            return Horizon.G1_G2
        return Horizon.NONE if self.G1 is None else Horizon.G1


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature as the model, the form and the dataset check see it.

    Attributes
    ----------
    kind
        ``"category"`` (one of `categories`), ``"integer"`` or ``"number"`` (within bounds).
    nullable
        Whether the value may be unknown.
    """

    name: str
    kind: Literal["category", "integer", "number"]
    about: About
    nullable: bool
    categories: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def public(self) -> dict[str, Any]:
        """Return bounds, choices, labels and help as JSON-ready values."""
        about = self.about
        choices = about.choices
        return {
            "kind": self.kind,
            "nullable": self.nullable,
            "minimum": self.low,
            "maximum": self.high,
            "categories": list(self.categories),
            "group": about.group,
            "labels": {"fr": about.label.fr, "en": about.label.en},
            "help": {"fr": about.help.fr, "en": about.help.en},
            "choices": None
            if choices is None
            else {str(value): {"fr": text.fr, "en": text.en} for value, text in choices.items()},
        }


def _describe(name: str) -> Feature:
    field = StudentFeatures.model_fields[name]
    about = next(m for m in field.metadata if isinstance(m, About))
    annotation = field.annotation
    nullable = NoneType in get_args(annotation)
    if get_origin(annotation) is Literal:
        return Feature(name, "category", about, nullable, categories=get_args(annotation))
    # The bounds of a nullable grade are one level down, in its own annotation.
    bounds: dict[str, float] = {}
    for item in field.metadata:
        for key in ("ge", "le"):
            if (value := getattr(item, key, None)) is not None:
                bounds[key] = float(value)
    kind: Literal["integer", "number"] = "integer" if annotation is int else "number"
    return Feature(name, kind, about, nullable, low=bounds["ge"], high=bounds["le"])


FEATURES: tuple[Feature, ...] = tuple(
    _describe(name) for name in StudentFeatures.model_fields if name != "reference"
)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
CATEGORICAL: tuple[str, ...] = tuple(f.name for f in FEATURES if f.kind == "category")
NUMERIC: tuple[str, ...] = tuple(f.name for f in FEATURES if f.kind != "category")
