"""CSV files give the same result wherever they are cut into slices."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from student_success.bulk.csv_reader import cut_csv, open_csv
from student_success.bulk.types import Position, ScoredSlice, Task
from student_success.bulk.worker import score
from student_success.core.errors import DatasetError
from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from student_success.domain.tables.columns import Choices
from tests.unit.bulk.test_rows import MODEL, TITLES, line_of

HEADER = (",".join(TITLES) + "\n").encode()
GOOD = line_of(EXAMPLE, "A").encode()
PIECES = st.sampled_from(
    [
        GOOD,
        GOOD,
        GOOD[:-1] + b"\r\n",
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


def whole(path: Path, *, size: int, large: bool) -> tuple[bytes, bytes, int, int, int]:
    layout, begin = open_csv(path, encoding="utf-8")
    task = Task(layout, "csv", True, large)
    parts: list[ScoredSlice] = []
    at = begin
    for part in cut_csv(path, layout, begin, size=size):
        assert part.line == at.line
        at = part.end
        parts.append(score(part, task, MODEL))
    assert at.offset == path.stat().st_size
    return (
        b"".join(part.predictions for part in parts),
        b"".join(part.rejects for part in parts),
        sum(part.scored for part in parts),
        sum(part.rejected for part in parts),
        sum(part.blank for part in parts),
    )


@given(st.lists(PIECES, max_size=12), st.integers(1, 400))
def test_score_returns_same_rows_for_any_slice_size(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], size: int
) -> None:
    path = tmp_path_factory.mktemp("slices") / "pupils.csv"
    path.write_bytes(HEADER + b"".join(pieces))
    expected = whole(path, size=1 << 20, large=False)
    assert whole(path, size=size, large=False) == expected
    assert whole(path, size=size, large=True) == expected


def test_cut_csv_resumes_at_any_slice_end(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER + GOOD * 3 + line_of(EXAMPLE, "x\ny").encode() + GOOD * 3)
    layout, begin = open_csv(path, encoding=None)
    ends = [part.end for part in cut_csv(path, layout, begin, size=60)]
    for end in ends:
        rest = b"".join(part.data for part in cut_csv(path, layout, end, size=60))
        assert rest == path.read_bytes()[end.offset :]
    assert ends[-1] == Position(path.stat().st_size, 10)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xff\xfeG\x001\x00", "UTF-16"),
        (b"PK\x03\x04", "ZIP"),
        (b"G1,G2\n1,2\n", "school: This column is missing"),
        (HEADER.replace(b"\n", b",G1\n"), "G1: This column appears twice"),
        (HEADER + b"x" * 20, "no line end"),
    ],
)
def test_open_csv_refuses_files_that_are_not_tables_of_pupils(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(content)
    monkeypatch.setattr("student_success.bulk.csv_reader.LONGEST_BYTES", 10)

    def read() -> None:
        layout, begin = open_csv(path, encoding=None)
        list(cut_csv(path, layout, begin, size=8))

    with pytest.raises(DatasetError, match=words):
        read()


def test_open_csv_guesses_encoding_from_beginning_of_file(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    row = line_of(EXAMPLE, "Élodie")
    for encoding, seen in (("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("cp1252", "cp1252")):
        path.write_bytes((HEADER.decode() + row).encode(encoding))
        layout, begin = open_csv(path, encoding=None)
        assert layout.encoding == seen
        (part,) = cut_csv(path, layout, begin)
        for large in (False, True):
            said = score(part, Task(layout, "csv", False, large), MODEL)
            assert "Élodie".encode() in said.predictions


@pytest.mark.parametrize(
    ("encoding", "reference"), [("cp1252", "Zoë"), ("cp1250", "Łódź"), ("cp1251", "Иванов")]
)
def test_open_csv_recognises_encoding(tmp_path: Path, encoding: str, reference: str) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(HEADER + f"{reference}\n".encode(encoding))
    assert open_csv(path, encoding=None)[0].encoding == encoding
    path.write_bytes(HEADER + f"{reference}\n".encode() + f"{reference}\n".encode(encoding))
    with pytest.raises(DatasetError, match="another text encoding"):
        open_csv(path, encoding=None)


@pytest.mark.parametrize("above", [b"sep=,\n", b"Class 3B,2025\n\n", b"# exported\n"])
def test_open_csv_finds_header_below_other_lines(tmp_path: Path, above: bytes) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(above + HEADER + b"\n")
    layout, begin = open_csv(path, encoding=None)
    assert layout.titles == tuple(HEADER.decode().strip().split(","))
    assert begin.line == above.count(b"\n") + 2


def test_score_accepts_file_without_grade_columns_if_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    names = [name for name in FEATURE_NAMES if name not in ("G1", "G2")]
    path.write_text(",".join(names) + "\n" + ",".join(str(EXAMPLE[n]) for n in names) + "\n")
    with pytest.raises(DatasetError, match="no grade column"):
        open_csv(path, encoding=None)
    layout, begin = open_csv(path, encoding=None, choices=Choices(without_grades=True))
    (part,) = cut_csv(path, layout, begin)
    assert b",none," in score(part, Task(layout, "csv", False, True), MODEL).predictions
