"""The application of a worker, imported only when it is opened.

BentoML's supervisor imports `service.py` as its workers do, but serves nothing. This module keeps
the database, the model runtime and their libraries out of the supervisor's memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ModelUnavailableError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from student_success.services.application import Application


class LazyApplication:
    """Call an instance to get the application of this worker."""

    def __init__(self, settings: Settings, tracer: Tracer | None = None) -> None:
        self.settings = settings
        self._tracer = tracer
        self._application: Application | None = None

    def open(self, *, worker: int) -> None:
        """Create and open the application, see `Application`."""
        from student_success.services.application import Application

        application = Application(self.settings, worker=worker, tracer=self._tracer)
        application.open()
        self._application = application

    def __call__(self) -> Application:
        """Return the application.

        Raises
        ------
        ModelUnavailableError
            Before it is opened.
        """
        if self._application is None:
            raise ModelUnavailableError("The service is starting.", retry_after=1)
        return self._application
