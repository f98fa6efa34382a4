"""Folders for what is on its way: gone with their block, or with the next one after a crash."""

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
    """Make a folder for the block, and remove what killed processes left behind of theirs."""
    above = state_dir / "tmp"
    above.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state_dir / "tmp.lock").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        for left in above.iterdir():
            with contextlib.suppress(BlockingIOError), _locked(left):
                shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(dir=above))
        held = contextlib.ExitStack()
        held.enter_context(_locked(scratch))
    with held:
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
