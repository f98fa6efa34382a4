"""The supervisor of BentoML's workers, shaped for this service.

It is circus, which listens for commands. BentoML gives it a port for that: any user of the machine
could have it run a program of theirs, and another process may take the port between the moment it
was found free and the moment it is listened on. Here it listens on a socket in the state directory,
which is nobody else's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def listen_in(folder: Path) -> None:
    """Let the supervisor of this process listen for commands in a folder; Linux only.

    Parameters
    ----------
    folder
        Made if missing, for this user alone.
    """
    if not sys.platform.startswith("linux"):
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Here, because circus sets up logging as soon as it is imported.
    from bentoml._internal.utils.circus import Arbiter

    # A socket's path may be a hundred characters long, and the state directory's is what it is.
    short = f"ipc:///proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}"
    make = Arbiter.__init__

    def made(self: Arbiter, *arguments: Any, **options: Any) -> None:
        options.update(endpoint=f"{short}/commands", pubsub_endpoint=f"{short}/events")
        make(self, *arguments, **options)

    Arbiter.__init__ = made
