"""Set the environment of BentoML before it is imported."""

from __future__ import annotations

import os
from pathlib import Path

from student_success.core.configuration.settings import Settings


def use_bento_store(settings: Settings) -> Path:
    """Make this process and its children use the Bento store of the settings.

    Returns
    -------
    Path
        The folder of BentoML: `BENTOML_HOME`, or a folder of the state directory if it is not set.
    """
    home = Path(os.environ.get("BENTOML_HOME") or settings.state_dir / "bentoml")
    os.environ.update(BENTOML_HOME=str(home), BENTOML_DO_NOT_TRACK="True")
    # Without it each thread gets a heap of its own, which keeps memory that it used once.
    os.environ["MALLOC_ARENA_MAX"] = os.environ.get("MALLOC_ARENA_MAX") or "2"
    return home
