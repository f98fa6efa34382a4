"""The work folder of a run: what is done so far, in such a way that a kill loses little of it.

It stands beside the output, so that the last step is a rename within one file system:

    .NAME.scoring/
        lock            held by the run at work
        plan.json       model, inputs and options that this work belongs to
        journal.jsonl   how far each file has come; the last line of a file counts
        000000.out      answers so far; what lies beyond the journal is cut off and done again
        000000.bad      rows set aside so far
        ready/          finished files under their names
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
from typing import Any

from student_success.core.errors import BusyError, ConflictError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file has come.

    Attributes
    ----------
    offset, line
        Position in the input.
    answers, refused
        Bytes of the output that belong to it.
    read, finished
        Whether all of the input is scored, and whether the output is ready.
    """

    offset: int
    line: int
    answers: int
    refused: int
    scored: int = 0
    bad: int = 0
    blank: int = 0
    read: bool = False
    finished: bool = False


class Work:
    """One run's folder; make it with `working`."""

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.ready = folder / "ready"
        self.resumed = False
        self.discarded = False
        self.progress: dict[int, Progress] = {}
        self.committing = False
        """Whether a run before this one had begun to put its files in place."""
        said = json.dumps({"format": FORMAT, **plan}, sort_keys=True, indent=1)
        self._plan = folder / "plan.json"
        with contextlib.suppress(OSError, ValueError):
            if self._plan.read_text("utf-8") == said:
                self.resumed = True
                self._read_journal()
        if not self.resumed:
            self.discarded = self._plan.exists()
            self._clear()
            self._plan.write_text(said, "utf-8")
        self.ready.mkdir(exist_ok=True)
        self._journal = self._journal_path.open("a", encoding="utf-8")
        if self.resumed:
            # A line that was cut off must not spoil the next one.
            self._journal.write("\n")

    @property
    def _journal_path(self) -> Path:
        return self.folder / "journal.jsonl"

    def _read_journal(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for text in self._journal_path.read_text("utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    line = json.loads(text)
                    if line.pop("commit", False):
                        self.committing = True
                    else:
                        number = line.pop("file")
                        self.progress[number] = Progress(**line)

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name == "lock":
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def answers(self, number: int) -> Path:
        """Return where the answers of a file gather."""
        return self.folder / f"{number:06d}.out"

    def refused(self, number: int) -> Path:
        """Return where the rows gather that were set aside of a file."""
        return self.folder / f"{number:06d}.bad"

    def note(self, number: int, progress: Progress) -> None:
        """Put on record how far a file has come; what it counts is on the disk already."""
        self.progress[number] = progress
        self._say({"file": number, **asdict(progress)})

    def note_commit(self) -> None:
        """Put on record that from now on finished files are put in place."""
        self._say({"commit": True})

    def _say(self, line: Mapping[str, Any]) -> None:
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def close(self) -> None:
        """Let the journal go; it stays."""
        self._journal.close()


class Gathering:
    """The two files that one input's answers and refusals gather in.

    Parameters
    ----------
    begun
        How far the input has come; what lies beyond is cut off.
    """

    def __init__(self, work: Work, number: int, begun: Progress) -> None:
        self._work = work
        self._number = number
        self.progress = begun
        self._answers = _from(work.answers(number), begun.answers)
        self._refused = _from(work.refused(number), begun.refused)

    def add(self, answers: bytes, refused: bytes, **changes: Any) -> None:
        """Write what became of one more slice; `changes` are those of `Progress`."""
        self._answers.write(answers)
        self._refused.write(refused)
        self.progress = replace(
            self.progress,
            answers=self.progress.answers + len(answers),
            refused=self.progress.refused + len(refused),
            **changes,
        )

    def checkpoint(self, **changes: bool) -> None:
        """Make sure that what was added stays, and put it on record."""
        for file in (self._answers, self._refused):
            file.flush()
            os.fsync(file.fileno())
        self.progress = replace(self.progress, **changes)
        self._work.note(self._number, self.progress)

    def close(self) -> None:
        """Let the files go; they stay."""
        self._answers.close()
        self._refused.close()


def _from(path: Path, length: int) -> Any:
    path.touch()
    if path.stat().st_size < length:
        raise ConflictError(f"The work folder {path.parent.name} is damaged: remove it.")
    file = path.open("r+b")
    file.truncate(length)
    file.seek(length)
    return file


@contextlib.contextmanager
def working(output: Path, plan: Mapping[str, Any]) -> Iterator[Work]:
    """Open the work folder of an output, for one run at a time.

    Raises
    ------
    BusyError
        If another run is at work on the same output.
    """
    folder = folder_of(output)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"Another run is writing {output.name} at this moment.") from None
        work = Work(folder, plan)
        try:
            yield work
        finally:
            work.close()


def folder_of(output: Path) -> Path:
    """Return the work folder of an output."""
    return output.with_name(f".{output.name}.scoring")
