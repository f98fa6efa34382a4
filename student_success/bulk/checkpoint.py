"""The work folder of a run: what is finished so far, so that a killed run can be continued.

It lies beside the output, so that the last step is a rename within one file system:

    .NAME.scoring/
        lock                 held by the running process
        plan.json            model, inputs and options that this work belongs to
        journal.jsonl        progress of each file; the last line of a file counts
        000000.predictions   predictions so far; what the journal does not cover is cut off
        000000.rejects       rejected rows so far
        ready/               finished files under their final names
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from student_success.core.errors import BusyError, ConflictError

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of one input file.

    Attributes
    ----------
    offset, line
        Position in the input.
    predictions, rejects
        Length of the two output files in bytes.
    scored, rejected, blank
        Numbers of rows.
    read, finished
        Whether the whole input is scored, and whether the output is ready.
    """

    offset: int
    line: int
    predictions: int = 0
    rejects: int = 0
    scored: int = 0
    rejected: int = 0
    blank: int = 0
    read: bool = False
    finished: bool = False


class WorkFolder:
    """The work folder of one run; opened with `open_work_folder`.

    Attributes
    ----------
    resumed
        Whether it continues an interrupted run.
    discarded
        Whether it replaced the work of a run with other inputs, model or options.
    committing
        Whether an interrupted run had begun to move its files to their final place.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.ready = folder / "ready"
        self.resumed = self.discarded = self.committing = False
        self.progress: dict[int, Progress] = {}
        text = json.dumps({"format": FORMAT, **plan}, sort_keys=True, indent=1)
        plan_file, journal = folder / "plan.json", folder / "journal.jsonl"
        with contextlib.suppress(OSError, ValueError):
            self.resumed = plan_file.read_text("utf-8") == text
        if self.resumed:
            self._read_journal(journal)
        else:
            self.discarded = plan_file.exists()
            self._clear()
            plan_file.write_text(text, "utf-8")
        self.ready.mkdir(exist_ok=True)
        self._journal = journal.open("a", encoding="utf-8")
        if self.resumed:
            # The kill may have left an incomplete last line.
            self._journal.write("\n")

    def _read_journal(self, journal: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            for text in journal.read_text("utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(text)
                    if entry.pop("commit", False):
                        self.committing = True
                    else:
                        number = entry.pop("file")
                        self.progress[number] = Progress(**entry)

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def predictions(self, number: int) -> Path:
        """Return the file of the predictions for an input."""
        return self.folder / f"{number:06d}.predictions"

    def rejects(self, number: int) -> Path:
        """Return the file of the rejected rows of an input."""
        return self.folder / f"{number:06d}.rejects"

    def record(self, number: int, progress: Progress) -> None:
        """Record the progress of a file. Its output must be on the disk already."""
        self.progress[number] = progress
        self._append({"file": number, **asdict(progress)})

    def record_commit(self) -> None:
        """Record that the finished files are being moved to their final place."""
        self._append({"commit": True})

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


class OutputFiles:
    """The files to which predictions and rejected rows of one input are appended.

    Parameters
    ----------
    progress
        Progress of the input so far; output beyond it is cut off.
    """

    def __init__(self, work: WorkFolder, number: int, progress: Progress) -> None:
        self._work = work
        self._number = number
        self.progress = progress
        self._predictions = _open_at(work.predictions(number), progress.predictions)
        self._rejects = _open_at(work.rejects(number), progress.rejects)

    def add(self, predictions: bytes, rejects: bytes, **changes: Any) -> None:
        """Append the result of a slice; `changes` are fields of `Progress`."""
        self._predictions.write(predictions)
        self._rejects.write(rejects)
        self.progress = replace(
            self.progress,
            predictions=self.progress.predictions + len(predictions),
            rejects=self.progress.rejects + len(rejects),
            **changes,
        )

    def checkpoint(self, **changes: bool) -> None:
        """Write to the disk what was appended, and record it."""
        for file in (self._predictions, self._rejects):
            file.flush()
            os.fsync(file.fileno())
        self.progress = replace(self.progress, **changes)
        self._work.record(self._number, self.progress)

    def close(self) -> None:
        """Close the files."""
        self._predictions.close()
        self._rejects.close()


def _open_at(path: Path, length: int) -> IO[bytes]:
    path.touch()
    if path.stat().st_size < length:
        raise ConflictError(f"The work folder {path.parent.name} is damaged: remove it.")
    file = path.open("r+b")
    file.truncate(length)
    file.seek(length)
    return file


@contextlib.contextmanager
def open_work_folder(output: Path, plan: Mapping[str, Any]) -> Iterator[WorkFolder]:
    """Lock and open the work folder of an output.

    Raises
    ------
    BusyError
        If another run writes the same output.
    """
    folder = work_folder_of(output)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"Another run is writing {output.name}. Nothing was changed.") from None
        with contextlib.closing(WorkFolder(folder, plan)) as work:
            yield work


def work_folder_of(output: Path) -> Path:
    """Return the work folder of an output."""
    return output.with_name(f".{output.name}.scoring")
