"""Full and read-only disks, and a locked database."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest


class SmallDisk:
    """A separate file system of a few megabytes."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("a small file system can be mounted by root only")
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Fill the disk to the last byte."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while ballast.write(bytes(1 << 16)):
                pass
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while ballast.write(bytes(512)):
                pass

    def empty(self) -> None:
        self._ballast.unlink()

    def read_only(self, yes: bool) -> None:
        """Make the disk read-only, or writable again. No file may be open for writing."""
        mode = "ro" if yes else "rw"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder, megabytes=megabytes)
    try:
        yield disk
    finally:
        disk.close()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold SQLite's exclusive lock during the block."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def no_writes(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Make every write of these processes to a file fail during the block."""
    pids = [process.pid for process in processes]
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids]
    for pid, (_, hard) in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        for pid, limits in zip(pids, before, strict=True):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
