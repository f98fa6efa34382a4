"""A file gives the same result wherever it is cut into parts, in each format it may have."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from student_success.bulk import reader as bulk_reader
from student_success.bulk.reader import read_layout, read_parts
from student_success.bulk.scoring import Scored, Task, score
from student_success.core.errors import DatasetError
from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from student_success.domain.tables import spreadsheet
from student_success.domain.tables.columns import Choices
from tests.unit.bulk.test_rows import MODEL, TITLES, answers, line_of, refused
from tests.unit.domain.tables.files import xlsx
from tests.unit.domain.tables.test_reader import set_format

HEADER = (",".join(TITLES) + "\n").encode()
GOOD = line_of(EXAMPLE, "A").encode()
QUOTED = b'"' + GOOD[:-1].replace(b",", b'","') + b'"\n'
PIECES = st.sampled_from(
    [
        GOOD,
        GOOD,
        GOOD[:-1] + b"\r\n",
        QUOTED,
        QUOTED,
        QUOTED[:-1] + b"\r\n",
        QUOTED.replace(b'"A"', b'""'),
        QUOTED.replace(b'"A"', b'"A, ""B"""'),
        QUOTED.replace(b'"A"', b'"A'),
        QUOTED.replace(b'"17"', b'"1"7'),
        QUOTED.replace(b'"17"', b' "17"'),
        QUOTED.replace(b'"A","', b'"A,"'),
        QUOTED.replace(b'"17"', b'"1,"7"'),
        line_of(EXAMPLE, 'two\nlines, and "quotes"\n\n').encode(),
        line_of({**EXAMPLE, "age": 99}, "too old").encode(),
        b"\n",
        b'5" pipe,GP\n',
        b'"stray"x,GP\n',
        b"M\xfcller,GP,17\n",
        b'"',
        b"a\rb\n",
    ]
)


def parts_of(path: Path, *, size: int | None = None, **options: Any) -> list[Scored]:
    choices = Choices(encoding=options.pop("encoding", None))
    layout = read_layout(path, choices)
    task = Task(layout, **options)
    return [score(part, task, MODEL) for part in read_parts(path, layout, choices, size=size)]


def whole(path: Path, *, size: int) -> tuple[bytes, bytes, int, int, int]:
    parts = parts_of(path, size=size, encoding="utf-8", with_inputs=True)
    return (
        b"".join(part.predictions for part in parts),
        b"".join(part.rejects for part in parts),
        sum(part.scored for part in parts),
        sum(part.rejected for part in parts),
        sum(part.blank for part in parts),
    )


@given(st.lists(PIECES, max_size=12), st.integers(1, 400))
def test_score_returns_same_rows_for_any_part_size(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], size: int
) -> None:
    path = tmp_path_factory.mktemp("parts") / "pupils.csv"
    path.write_bytes(HEADER + GOOD + b"".join(pieces))
    expected = whole(path, size=1 << 20)
    assert whole(path, size=size) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk_reader, "_read_plain", lambda *_: None)
        assert whole(path, size=size) == expected
    assert expected[2] + expected[3] > 0


def test_quoted_cells_are_read_by_pyarrow_and_irregular_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER + QUOTED)
    layout = read_layout(path)
    text = QUOTED.decode()
    assert bulk_reader._read_plain(text * 3, layout) is not None
    assert bulk_reader._read_plain(text[:-1], layout) is not None
    for irregular in ('"1"7', '"1,"7"', ' "17"', '"17" ', '"1""7"', '"17\n"', '17"', '"17'):
        assert bulk_reader._read_plain(text.replace('"17"', irregular) + text, layout) is None
    part = parts_of(path)
    path.write_bytes(HEADER + QUOTED.replace(b'"17"', b'"1"7'))
    assert [(each.scored, each.rejected) for each in (*part, *parts_of(path))] == [(1, 0), (0, 1)]


def test_parts_are_numbered_by_the_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER + GOOD * 3 + line_of(EXAMPLE, "x\ny").encode() + GOOD * 3)
    layout = read_layout(path)
    for size in (1, 60, 1 << 20):
        parts = list(read_parts(path, layout, size=size))
        assert [line for part in parts for line in part.lines.tolist()] == [2, 3, 4, 5, 7, 8, 9]
        assert parts[-1].done == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xff\xfeG\x001\x00", "school: This column is missing"),
        (b"PK\x03\x04", "not a readable"),
        (b"G1,G2\n1,2\n", "school: This column is missing"),
        (HEADER.replace(b"\n", b",G1\n"), "G1: This column appears twice"),
        (HEADER + GOOD + b"x" * 20, "does not end"),
    ],
)
def test_files_that_are_not_tables_of_pupils_are_refused_with_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(content)
    monkeypatch.setattr("student_success.bulk.reader.LONGEST_RECORD", 10)
    with pytest.raises(DatasetError, match=words) as refused:
        list(read_parts(path, read_layout(path), size=8))
    assert "pupils.csv" in refused.value.message


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".parquet", ".xlsx"])
def test_damaged_files_are_refused_with_their_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"pupils{ending}"
    compression = {".csv.gz": "gzip", ".csv.zst": "zstd"}.get(ending)
    content = HEADER + b"".join(line_of(EXAMPLE, f"{n}").encode() for n in range(60_000))
    if compression:
        content = bytes(pa.compress(content, compression, asbytes=True))
    path.write_bytes(content[:-50] if compression else b"PK\x03\x04" + content)
    with pytest.raises(DatasetError, match="pupils"):
        list(read_parts(path, read_layout(path)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encoding_and_line_ends_are_recognised(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "pupils.csv"
    lines = HEADER.decode() + line_of({**EXAMPLE, "age": 99}, "old") + line_of(EXAMPLE, "Élodie")
    path.write_bytes(lines.replace("\n", end).encode(encoding))
    for size in (None, 7):
        parts = parts_of(path, size=size)
        assert [row["reference"] for part in parts for row in answers(part)] == ["Élodie"]
        assert [row["line"] for part in parts for row in answers(part)] == ["3"]
        assert [row["line"] for part in parts for row in refused(part)] == ["2"]


@pytest.mark.parametrize(
    ("encoding", "reference"), [("cp1252", "Zoë"), ("cp1250", "Łódź"), ("cp1251", "Иванов")]
)
def test_encoding_of_another_alphabet_is_recognised(
    tmp_path: Path, encoding: str, reference: str
) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER + line_of(EXAMPLE, f"{reference}1").encode(encoding))
    layout = read_layout(path)
    assert layout.encoding == encoding
    assert any(encoding in str(note) for note in layout.notes)
    path.write_bytes(path.read_bytes() + f"{reference}\n".encode())
    with pytest.raises(DatasetError, match="another text encoding"):
        read_layout(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_encoding_is_recognised_where_the_sample_ends_within_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes((HEADER.decode() + line_of(EXAMPLE, "Élodie") * 50).encode(encoding))
    for size in range(600, 640):
        monkeypatch.setattr("student_success.bulk.reader._SAMPLE_BYTES", size)
        assert sum(part.scored for part in parts_of(path)) == 50


@pytest.mark.parametrize("above", [b"sep=,\n", b"Class 3B,2025\n\n", b"# exported\n"])
def test_header_is_found_below_other_lines(tmp_path: Path, above: bytes) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(above + HEADER + GOOD)
    layout = read_layout(path)
    assert layout.titles == TITLES
    (part,) = parts_of(path)
    assert [int(row["line"]) for row in answers(part)] == [above.count(b"\n") + 2]


def test_header_of_several_lines_is_not_read_as_a_row(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER.replace(b"\n", b',"note\nof the teacher"\n') + GOOD[:-1] + b",x\n")
    (part,) = parts_of(path)
    assert [(row["line"], row["reference"]) for row in answers(part)] == [("3", "A")]


def test_file_without_rows_gives_no_predictions(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER)
    (part,) = parts_of(path)
    assert (part.predictions, part.scored, part.rejected) == (b"", 0, 0)


def test_file_without_grade_columns_is_accepted_if_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    names = [name for name in FEATURE_NAMES if name not in ("G1", "G2")]
    path.write_text(",".join(names) + "\n" + ",".join(str(EXAMPLE[n]) for n in names) + "\n")
    with pytest.raises(DatasetError, match="no grade column"):
        read_layout(path)
    layout = read_layout(path, Choices(without_grades=True))
    (part,) = read_parts(path, layout)
    assert b",none," in score(part, Task(layout), MODEL).predictions


def test_names_are_left_out_and_never_taken_for_references(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    titles = HEADER.replace(b"reference", "Élève".encode())
    path.write_bytes(titles + line_of(EXAMPLE, "Marie Durand").encode() * 3)
    assert any("seems to contain names" in str(note) for note in read_layout(path).notes)
    (part,) = parts_of(path)
    assert b"Durand" not in part.predictions
    assert {row["reference"] for row in answers(part)} == {""}


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst"])
def test_compressed_text_gives_the_predictions_of_the_plain_text(
    tmp_path: Path, ending: str
) -> None:
    text = HEADER + b"".join(line_of(EXAMPLE, f"P{n}").encode() for n in range(500))
    plain, packed = tmp_path / "pupils.csv", tmp_path / f"pupils{ending}"
    plain.write_bytes(text)
    if ending == ".csv.gz":
        # Two members, as programs that compress in parallel write them.
        packed.write_bytes(gzip.compress(text[:9000]) + gzip.compress(text[9000:]))
    else:
        packed.write_bytes(pa.compress(text, "zstd", asbytes=True))
    expected = b"".join(part.predictions for part in parts_of(plain))
    assert expected.count(b"\n") == 500
    assert b"".join(part.predictions for part in parts_of(packed, size=4000)) == expected


def test_spreadsheet_rows_keep_their_line_and_the_reason_of_a_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheet, "_in_child", spreadsheet.parse)
    titles = ["reference", *EXAMPLE]
    grade = titles.index("G2")
    rows = [[reference, *EXAMPLE.values()] for reference in ("A", "B", "C")]
    data = xlsx({"1": [titles, rows[0], [None], *rows[1:]]}, set_format("0%", 0.6, grade))
    # By content, whatever the name says.
    for name in ("pupils.xlsx", "pupils.csv"):
        path = tmp_path / name
        path.write_bytes(data)
        (part,) = parts_of(path)
        assert [(row["line"], row["reference"]) for row in answers(part)] == [
            ("4", "B"),
            ("5", "C"),
        ]
        (row,) = refused(part)
        assert (row["line"], row["column"], row["first"]) == ("2", "G2", "A")
        assert "is a percentage" in row["problem"]


def test_titles_far_below_are_skipped_if_they_are_the_same_and_refused_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_reader, "_SAMPLE_BYTES", len(HEADER + GOOD))
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER + GOOD + GOOD + HEADER + GOOD)
    assert [(p.scored, p.rejected, p.blank) for p in parts_of(path)] == [(3, 0, 1)]
    other = (",".join([*TITLES[:-2], TITLES[-1], TITLES[-2]]) + "\n").encode()
    path.write_bytes(HEADER + GOOD + GOOD + other + GOOD)
    with pytest.raises(DatasetError, match="Line 4 has other titles"):
        parts_of(path)
