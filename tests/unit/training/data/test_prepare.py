"""Preparing the real data: the download, the archive, the merge, and what a failure leaves."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from student_success.core.errors import DatasetError
from training.data import prepare as preparing
from training.data.prepare import (
    IDENTITY,
    MATHEMATICS,
    OTHERS,
    PORTUGUESE,
    ROWS,
    merge,
    prepare,
    unpack,
)

COMMON = dict.fromkeys(IDENTITY, "other") | {
    "school": "GP",
    "sex": "F",
    "age": "17",
    "reason": "course",
    "nursery": "yes",
}
REST = dict.fromkeys(OTHERS, "1") | {
    **dict.fromkeys(["schoolsup", "famsup", "paid", "activities", "higher", "romantic"], "no"),
    **{"G1": "10", "G2": "11", "G3": "12"},
}


def pupil(**changes: object) -> dict[str, str]:
    return COMMON | REST | {name: str(value) for name, value in changes.items()}


def as_uci(pupils: list[dict[str, str]]) -> bytes:
    lines = [";".join(pupils[0]), *(";".join(f'"{cell}"' for cell in p.values()) for p in pupils)]
    return "\n".join(lines).encode()


def padded(name: str, pupils: list[dict[str, str]]) -> bytes:
    """Fill up with pupils that no other file has, to the number of rows that UCI published."""
    school = "MS" if name == PORTUGUESE else "GP"
    fill = [
        pupil(school=school, Mjob=f"job{n}", age=15 + n % 7)
        for n in range(ROWS[name] - len(pupils))
    ]
    return as_uci(pupils + fill)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {
        MATHEMATICS: padded(
            MATHEMATICS, [pupil(G3=5, studytime=3), pupil(G3=6), pupil(G3=7), pupil(age=18)]
        ),
        PORTUGUESE: padded(
            PORTUGUESE,
            [pupil(G3=15), pupil(school="MS", G3=1), pupil(school="MS", G3=2)],
        ),
    }


@pytest.fixture
def source(files: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "uci"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class _Archive(BaseHTTPRequestHandler):
    content = b""
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Archive]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Archive", (_Archive,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}/320.zip"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_pupil_of_both_courses_is_taken_once_with_the_mathematics_row(
    files: dict[str, bytes],
) -> None:
    merged = merge(files)
    key = merged[IDENTITY].agg(" ".join, axis=1)
    assert key.is_unique
    assert key.tolist() == sorted(key)
    both = merged[key == " ".join(COMMON.values())]
    assert both[["source", "G3"]].to_numpy().tolist() == [["both", "6"]]
    only = merged[key == " ".join((COMMON | {"school": "MS"}).values())]
    assert only[["source", "G3"]].to_numpy().tolist() == [["por", "1"]]
    assert merged["source"].value_counts().to_dict() == {"por": 647, "mat": 392, "both": 1}


def test_local_copies_become_the_table_and_are_kept_beside_it(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "data" / "final.csv"
    prepared = prepare(source_dir=source, destination=target)
    assert (prepared.path, prepared.rows, prepared.as_published) == (target, 1040, False)
    assert sorted(p.name for p in (tmp_path / "data").rglob("*")) == [
        *("final.csv", "raw", MATHEMATICS, PORTUGUESE)
    ]


def test_real_files_reproduce_the_merged_table_byte_for_byte(
    real_data_dir: Path, tmp_path: Path
) -> None:
    prepared = prepare(source_dir=real_data_dir, destination=tmp_path / "final.csv")
    assert prepared.as_published
    assert prepared.path.read_bytes() == (real_data_dir / "final.csv").read_bytes()


@pytest.mark.parametrize("nested", [False, True])
def test_archive_is_downloaded_and_unpacked(
    archive: type[_Archive], files: dict[str, bytes], tmp_path: Path, nested: bool
) -> None:
    content = zipped({f"student/{name}": text for name, text in files.items()})
    archive.content = zipped({"student.zip": content, "other.txt": b"x"}) if nested else content
    target = tmp_path / "final.csv"
    assert prepare(url=archive.url, destination=target).rows == 1040  # type: ignore[attr-defined]
    assert target.exists()


def test_answer_that_is_an_error_is_named(archive: type[_Archive], tmp_path: Path) -> None:
    archive.status = 503
    with pytest.raises(DatasetError, match="answered 503"):
        prepare(url=archive.url, destination=tmp_path / "final.csv")  # type: ignore[attr-defined]


def test_download_without_end_is_cut_off(
    archive: type[_Archive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "MAX_BYTES", 1000)
    archive.content = b"x" * 100_000
    with pytest.raises(DatasetError, match="far larger"):
        prepare(url=archive.url, destination=tmp_path / "final.csv")  # type: ignore[attr-defined]


def test_no_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DatasetError, match="--from DIR"):
        prepare(url="http://127.0.0.1:9/320.zip", destination=tmp_path / "final.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>moved</html>", "not a readable zip"),
        (zipped({"student-mat.csv": b"x"}), "does not contain student-por.csv"),
        (zipped({"student.zip": b"broken"}), "not a readable zip"),
        (zipped({"student-mat.csv": b"x" * (9 << 20)}), "far larger"),
        (zipped({"student-mat.csv": b"abc" * 99})[:-40], "not a readable zip"),
    ],
    ids=["no zip", "file missing", "no zip inside", "too large", "cut short"],
)
def test_archive_that_is_not_the_one_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        unpack(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (MATHEMATICS, b"", "is empty"),
        (MATHEMATICS, b"a;b\n1;2\n", "not the UCI file"),
        (PORTUGUESE, as_uci([pupil()] * 10), "should have 649 whole rows"),
        (PORTUGUESE, padded(PORTUGUESE, [pupil(age=99)]), "1 bad cell"),
        (PORTUGUESE, None, "student-por.csv cannot be found in .*make prepare FROM=DIR"),
    ],
)
def test_failure_leaves_the_earlier_table_as_it_was(
    source: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    target = tmp_path / "data" / "final.csv"
    target.parent.mkdir()
    target.write_text("the earlier one")
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        prepare(source_dir=source, destination=target)
    assert target.read_text() == "the earlier one"
    assert [p.name for p in target.parent.iterdir()] == ["final.csv"]
