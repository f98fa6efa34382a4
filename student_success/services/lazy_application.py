"""The application, made where it is opened.

BentoML's supervisor imports the service as its workers do. It serves nothing, so it need not carry
the database, the model's runtime and all that comes with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from student_success.core.errors import ModelUnavailableError
from student_success.core.memory import no_collections
from student_success.core.settings import Settings

if TYPE_CHECKING:
    from student_success.services.application import Application


class LateApplication:
    """Call it for the application of this worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opened: Application | None = None

    def open(self, *, leader: bool) -> None:
        """Make the application and open it, see `Application.open`."""
        with no_collections():
            from student_success.services.application import Application

            opened = Application(self.settings)
            opened.open(leader=leader)
        self._opened = opened

    def __call__(self) -> Application:
        """Return the application.

        Raises
        ------
        ModelUnavailableError
            Before it is opened.
        """
        if self._opened is None:
            raise ModelUnavailableError("The service is starting.", retry_after=1)
        return self._opened
