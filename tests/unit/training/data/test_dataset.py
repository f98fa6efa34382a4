"""Reading pupils: which files are taken, and that every bad cell is named at once."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatasetError
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, StudentFeatures
from student_success.domain.tables.cells import feature_of
from student_success.domain.tables.reader import read_choices
from training.data.dataset import COLUMNS, SAMPLE, load, read

AGES, FINALS = ["15", "16", "17", "18"], ["4", "8", "12", "16", "9"]
PUPIL = {name: str(EXAMPLE[name]) for name in FEATURE_NAMES} | {"G3": "10", "sex": "F"}
PUPILS = [PUPIL | {"age": AGES[n % 4], "G3": FINALS[n % 5]} for n in range(60)]
"""Enough different pupils to train on."""
Write = Callable[..., Path]


def as_csv(rows: list[dict[str, str]], *, separator: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(content: str | bytes, name: str = "pupils.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]


def problems(path: Path) -> list[tuple[int, str]]:
    with pytest.raises(DatasetError) as caught:
        read(path)
    return [(d["row"], d.get("column", "")) for d in caught.value.details]


def test_good_file_is_read_with_features_target_and_audit_apart(write: Write) -> None:
    path = write(as_csv([PUPIL, PUPIL | {"G2": "", "sex": "M"}, PUPIL | {"G1": "", "G2": ""}]))
    data = read(path)
    assert list(data.frame.columns) == list(COLUMNS)
    assert list(data.audit.columns) == ["sex"]
    assert data.audit["sex"].tolist() == ["F", "M", "F"]
    assert data.frame["G2"].isna().tolist() == [False, True, True]
    assert data.frame.dtypes.astype(str)[["age", "G1", "G3", "school"]].tolist() == [
        *("int64", "float64", "float64", "str")
    ]
    assert data.describe() == {
        "name": "pupils.csv",
        "rows": 3,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "synthetic": False,
        "copies_left_out": 0,
    }


def test_every_bad_cell_is_reported_at_once_and_no_value_is_repeated(write: Write) -> None:
    bad = [
        PUPIL | {"school": "XX", "age": "14", "G3": "10.5"},
        PUPIL,
        PUPIL | {"failures": "5", "absences": "-4", "G1": "inf", "G2": "-1"},
        PUPIL | {"G1": "", "G2": "12"},
        PUPIL | {"age": "17.5", "school": "", "G3": "21", "goout": "many"},
    ]
    with pytest.raises(DatasetError) as caught:
        read(write(as_csv(bad)))
    found = {(d["row"], d["column"]): d["problem"] for d in caught.value.details}
    assert set(found) == {
        *((2, "school"), (2, "age"), (2, "G3")),
        *((4, "failures"), (4, "absences"), (4, "G1"), (4, "G2")),
        (5, "G1"),
        *((6, "age"), (6, "school"), (6, "G3"), (6, "goout")),
    }
    assert found[2, "age"] == "Enter a whole number from 15 to 22."
    assert found[2, "G3"] == "Enter a possible final grade: from 0 to 20, in steps of 1."
    assert found[5, "G1"].startswith("A grade is given without the one before it.")
    assert found[4, "G1"] == "Enter a grade from 0 to 20; decimals are allowed."
    assert "12 bad cells in 4 rows" in caught.value.message
    assert not any(word in str(caught.value.details) for word in ("XX", "many", "10.5"))


def test_rows_are_counted_as_a_spreadsheet_counts_them(write: Write) -> None:
    header, row, _ = as_csv([PUPIL]).split("\n")
    path = write("\n".join(["", header, row, "", row.replace("GP", "ZZ"), ",,,", row + ",extra"]))
    assert problems(path) == [(5, "school"), (7, "")]


@pytest.mark.parametrize("cell", ["0x11", "1_7", "17,5", "1.700", "١٧", "true", "1e400", "nan"])
def test_text_that_only_some_parsers_take_for_a_number_is_refused(write: Write, cell: str) -> None:
    assert problems(write(as_csv([PUPIL | {"age": cell}]))) == [(2, "age")]


@pytest.mark.parametrize("cell", ["17.0", "17,0", " 17 ", "+17", "1.7e1"])
def test_whole_number_may_be_written_in_other_ways(write: Write, cell: str) -> None:
    assert read(write(as_csv([PUPIL | {"age": cell}]))).frame["age"].tolist() == [17]


def test_semicolons_decimal_commas_byte_order_mark_and_windows_line_ends_are_taken(
    write: Write,
) -> None:
    text = "\ufeff" + as_csv([PUPIL | {"G1": "10,5"}], separator=";").replace("\n", "\r\n")
    data = read(write(text))
    assert data.frame["G1"].tolist() == [10.5]
    assert data.audit["sex"].tolist() == ["F"]


@pytest.mark.parametrize(
    "content",
    [
        as_csv([PUPIL], separator="\t"),
        as_csv([PUPIL], separator="|"),
        as_csv([PUPIL]).replace("\n", "\r"),
        "sep=;\n" + as_csv([PUPIL], separator=";"),
        as_csv([PUPIL]).encode("utf-16"),
        as_csv([PUPIL | {"sex": "é"}]).encode("cp1252"),
        as_csv([PUPIL | {"nursery": "oui", "paid": "non", "reason": "les cours proposés"}]),
        as_csv([PUPIL, PUPIL | {"G3": ""}, PUPIL | {"G3": "NA"}]),
    ],
)
def test_file_in_any_dialect_with_labels_or_missing_outcomes_is_read(
    write: Write, content: str | bytes
) -> None:
    frame = read(write(content)).frame
    assert frame[["school", "age", "nursery", "paid", "G1", "G3"]].to_numpy().tolist() == [
        ["GP", 17, "yes", "no", 10.0, 10.0]
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"PK\x03\x04\x00\x00", "not a readable"),
        (as_csv([PUPIL]).split("\n")[0], "no rows below its titles"),
        (as_csv([PUPIL]) + '"GP', "not correct CSV"),
        ("age,G1\n17,10\n", "school is missing from the header; reason is missing"),
        (as_csv([PUPIL]).replace("sex", "G1", 1), "G1 has more than one column"),
    ],
)
def test_file_that_is_no_table_of_pupils_is_refused_in_plain_words(
    write: Write, content: str | bytes, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read(write(content))


def test_mapping_says_what_other_titles_hold(write: Write) -> None:
    path = write(as_csv([PUPIL]).replace("G1,G2", "T1,T2"))
    with pytest.raises(DatasetError, match="G1 is missing from the header; G2 is missing"):
        read(path)
    mapping = write('[columns]\nT1 = "G1"\nT2 = "G2"\n', "mapping.toml")
    data = read(path, read_choices(mapping))
    assert data.frame[["G1", "G2"]].to_numpy().tolist() == [[float(PUPIL[n]) for n in ("G1", "G2")]]
    file = write(as_csv(PUPILS).replace("G1,G2", "T1,T2"))
    assert load(settings(data_path=file, data_mapping=mapping)).rows == len(PUPILS)


def test_grades_on_another_scale_are_refused_as_a_whole(write: Write) -> None:
    rows = [PUPIL | {"G1": grade, "G2": grade} for grade in ("20", "60", "65")]
    with pytest.raises(DatasetError, match="seem to follow another scale"):
        read(write(as_csv(rows)))


def test_missing_columns_are_listed_one_by_one(write: Write) -> None:
    found = problems(write("age,G1\n17,10\n"))
    assert [column for _, column in found] == [n for n in COLUMNS if n not in ("age", "G1")]


def test_missing_file_and_folder_are_refused_without_their_path(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent\.csv does not exist") as caught:
        read(tmp_path / "absent.csv")
    assert str(tmp_path) not in caught.value.message
    with pytest.raises(DatasetError, match="cannot be read"):
        read(tmp_path)


def test_data_path_is_used_and_never_passed_over(write: Write, tmp_path: Path) -> None:
    path = write(as_csv(PUPILS), "school.csv")
    assert load(settings(data_path=path)).name == "school.csv"
    with pytest.raises(DatasetError, match="does not exist"):
        load(settings(data_path=tmp_path / "absent.csv"))


def test_prepared_data_comes_before_the_sample(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "data_dir", tmp_path)
    assert load(settings()).synthetic
    write(as_csv(PUPILS), "final.csv")
    found = load(settings())
    assert (found.name, found.synthetic) == ("final.csv", False)


def test_too_few_pupils_to_train_on_are_refused(write: Write) -> None:
    with pytest.raises(DatasetError, match="a training needs 50 or more"):
        load(settings(data_path=write(as_csv([PUPIL] * 3))))


def test_sample_is_recognised_wherever_and_however_it_was_saved(write: Write) -> None:
    text = SAMPLE.read_text()
    assert read(write(text, "our-school.csv")).synthetic
    header, *rows = text.strip().split("\n")
    resaved = "\r\n".join([header, *sorted(rows)]).replace(",", ";")
    assert read(write(resaved, "resaved.csv")).synthetic
    assert not read(write("\n".join([header, *rows[:-1]]), "shorter.csv")).synthetic


def test_real_data_is_read_whole(real_data_dir: Path) -> None:
    data = read(real_data_dir / "final.csv")
    assert (data.rows, data.synthetic) == (662, False)
    assert {"sex", "address", "Medu"} <= set(data.audit.columns)
    assert read(real_data_dir / "student-por.csv").rows == 649


cells = st.sampled_from(["GP", "yes", "", "0", "1", "4", "15", "17.0", "17.5", "20", "21", "-1"])


@given(changes=st.dictionaries(st.sampled_from(FEATURE_NAMES), cells, max_size=4))
def test_dataset_and_api_accept_the_same_pupils(
    changes: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    row = PUPIL | changes
    path = tmp_path_factory.mktemp("pupils") / "pupil.csv"
    path.write_text(as_csv([row]))
    as_json: dict[str, object] = {}
    for name in FEATURE_NAMES:
        try:
            as_json[name] = float(row[name])
        except ValueError:
            as_json[name] = row[name] or None
        if set(feature_of(name).categories) == {"yes", "no"}:
            # A table may say 1 and 0 for yes and no.
            as_json[name] = {"1": "yes", "0": "no"}.get(row[name], as_json[name])
    try:
        StudentFeatures.model_validate(as_json)
    except ValidationError:
        with pytest.raises(DatasetError):
            read(path)
    else:
        assert read(path).rows == 1
