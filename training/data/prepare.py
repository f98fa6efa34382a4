"""Make `data/final.csv`: download the two UCI files, check and merge them.

Source: P. Cortez, A. Silva, Using Data Mining to Predict Secondary School Student Performance
(2008); UCI Machine Learning Repository, data set 320, DOI 10.24432/C5TG7T, licence CC BY 4.0.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd

from student_success.core.errors import DatasetError
from student_success.domain.tables.reader import read_bytes
from training.data.csv_table import read_text_columns
from training.data.dataset import read
from training.data.shipped import require_shipped_profile

UCI_URL = "https://archive.ics.uci.edu/static/public/320/student+performance.zip"
MATHEMATICS, PORTUGUESE = "student-mat.csv", "student-por.csv"
ROWS = {MATHEMATICS: 395, PORTUGUESE: 649}
SHA256 = {
    MATHEMATICS: "e47f9ee225e1ee6e69b7564e6dac7123e80b8486677fe111f351964cef5dec80",
    PORTUGUESE: "a7594a11d7771c0efe1a740824e0e833da9c4cad07c39a9766a874575563fb3f",
}
"""The files as published; other files of the same structure are accepted with a notice."""

IDENTITY = [
    *("school", "sex", "age", "address", "famsize", "Pstatus", "Medu", "Fedu", "Mjob", "Fjob"),
    *("reason", "nursery", "internet"),
]
"""Columns that identify a pupil in both files."""

OTHERS = [
    *("guardian", "traveltime", "studytime", "failures", "schoolsup", "famsup", "paid"),
    *("activities", "higher", "romantic", "famrel", "freetime", "goout", "Dalc", "Walc", "health"),
    *("absences", "G1", "G2", "G3"),
]
MAX_BYTES = 8 << 20
"""Limit of the download; the archive has under 100 kB and unpacks to under 1 MB."""
TIMEOUT_SECONDS = 30.0
"""Time limit of each step of the download."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The file written, and whether its sources are the files as published."""

    path: Path
    rows: int
    sha256: str
    as_published: bool


def prepare(
    *,
    destination: Path,
    source_dir: Path | None = None,
    url: str = UCI_URL,
) -> Prepared:
    """Write the merged table to `destination`, and the two source files to `raw/` beside it.

    Parameters
    ----------
    source_dir
        Folder with both UCI files; they are downloaded if None.

    Raises
    ------
    DatasetError
        If the files are unavailable or not the expected ones; then nothing is written.
    ConfigurationError
        If the profile is not the one that ships.
    """
    require_shipped_profile("The merged UCI file")
    if source_dir is None:
        files = unpack(download(url))
    else:
        missing = [name for name in ROWS if not (source_dir / name).is_file()]
        if missing:
            raise DatasetError(
                f"Nothing was changed: {' and '.join(missing)} cannot be found in {source_dir}. "
                "Give the folder with both files of the UCI archive: make prepare FROM=DIR, or "
                "--from DIR."
            )
        files = {name: read_bytes(source_dir / name) for name in ROWS}
    merged = merge(files).to_csv(index=False, lineterminator="\n").encode()
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".prepare-") as folder:
            draft = Path(folder) / destination.name
            draft.write_bytes(merged)
            dataset = read(draft)  # report problems now, not in the next training
            raw = destination.parent / "raw"
            raw.mkdir(exist_ok=True)
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
                os.replace(Path(folder) / name, raw / name)
            os.replace(draft, destination)
    except OSError as error:
        raise DatasetError(f"{destination.name} cannot be written: {error.strerror}.") from error
    known = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return Prepared(destination, dataset.rows, dataset.sha256, known == SHA256)


def download(url: str) -> bytes:
    """Download the archive, at most `MAX_BYTES` of it.

    Raises
    ------
    DatasetError
        Without network, on an answer that is not 200, on a time-out, or when it is too large.
    """
    content = bytearray()
    try:
        with httpx.stream("GET", url, timeout=TIMEOUT_SECONDS, follow_redirects=True) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise DatasetError("The download is far larger than the UCI archive is.")
    except httpx.HTTPStatusError as error:
        raise DatasetError(
            f"The UCI archive answered {error.response.status_code}: try again later, or take "
            "local copies of the two files with --from DIR."
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DatasetError(
            f"The UCI archive could not be reached ({type(error).__name__}): without network, take "
            "local copies of the two files with --from DIR."
        ) from error
    return bytes(content)


def unpack(archive: bytes) -> dict[str, bytes]:
    """Extract the two files from the archive, or from an archive inside it.

    Raises
    ------
    DatasetError
        If it is not a zip archive, is damaged or too large, or lacks one of the files.
    """
    found: dict[str, bytes] = {}
    try:
        _collect(archive, found, depth=2)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DatasetError("The download is not a readable zip archive.") from error
    missing = [name for name in ROWS if name not in found]
    if missing:
        raise DatasetError(f"The archive does not contain {' and '.join(missing)}.")
    return {name: found[name] for name in ROWS}


def _collect(archive: bytes, found: dict[str, bytes], *, depth: int) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for member in opened.infolist():
            name = Path(member.filename).name
            nested = name.endswith(".zip") and depth > 1
            if name not in ROWS and not nested:
                continue
            if member.file_size > MAX_BYTES:
                raise DatasetError(f"{name} in the archive is far larger than it should be.")
            with opened.open(member) as stream:
                content = stream.read(MAX_BYTES + 1)
            if nested:
                _collect(content, found, depth=depth - 1)
            else:
                found.setdefault(name, content)


def merge(files: Mapping[str, bytes]) -> pd.DataFrame:
    """Merge the two files into one row a pupil, sorted by identity.

    A pupil of both courses is taken with the mathematics row. `source` says where a pupil was
    found: ``both``, ``mat`` or ``por``.

    Two pupils of one file can share an identity; one is kept. No published rule says which. In the
    Portuguese file the earlier one agrees with the table that the original application trained on,
    in the mathematics file the one with less study time and, where that is equal, the earlier one:
    with this rule all 662 rows come out equal.
    """
    mathematics = _pupils(MATHEMATICS, files[MATHEMATICS])
    portuguese = _pupils(PORTUGUESE, files[PORTUGUESE])
    by_study_time = mathematics.sort_values("studytime", kind="stable")
    mathematics = by_study_time.drop_duplicates(IDENTITY)
    portuguese = portuguese.drop_duplicates(IDENTITY)
    both = _identities(mathematics).isin(_identities(portuguese))
    only = ~_identities(portuguese).isin(_identities(mathematics))
    merged = pd.concat(
        [
            mathematics.assign(source=both.map({True: "both", False: "mat"}).to_numpy()),
            portuguese[only.to_numpy()].assign(source="por"),
        ]
    )
    return merged.sort_values(IDENTITY, kind="stable")[[*IDENTITY, "source", *OTHERS]]


def _pupils(name: str, content: bytes) -> pd.DataFrame:
    cells = read_text_columns(name, content)
    missing = [column for column in (*IDENTITY, *OTHERS) if column not in cells]
    if missing:
        raise DatasetError(f"{name} is not the UCI file: it has no column {', '.join(missing)}.")
    if len(cells) != ROWS[name]:
        raise DatasetError(
            f"{name} is not the UCI file: it should have {ROWS[name]} whole rows of pupils."
        )
    return cells


def _identities(pupils: pd.DataFrame) -> pd.Series[str]:
    return pupils[IDENTITY].agg("\x1f".join, axis="columns")
