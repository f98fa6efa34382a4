"""Temporary directories that are removed after use, or by the next use after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(state_dir: Path) -> Iterator[Path]:
    """Create a temporary directory for the block, and remove those of killed processes."""
    parent = state_dir / "tmp"
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state_dir / "tmp.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for folder in parent.iterdir():
            with contextlib.suppress(BlockingIOError), _locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(dir=parent))
        lock_holder = contextlib.ExitStack()
        lock_holder.enter_context(_locked(scratch))
    with lock_holder:
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
