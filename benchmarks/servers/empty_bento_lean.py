"""A BentoML method that does nothing, asynchronous, under this project's own server settings."""

from __future__ import annotations

import bentoml

from student_success.server.bentoml_app import freeze_heap, lean


@lean
@bentoml.service(name="empty_bento_lean", logging={"access": {"enabled": False}})
class EmptyBentoLean:
    """A service with one empty method, under this project's server settings."""

    @bentoml.on_startup
    async def open(self) -> None:
        """Freeze the heap, as the service does."""
        freeze_heap()

    @bentoml.api
    async def predict(self) -> dict[str, float]:
        """Return a constant."""
        return {"predicted_G3": 10.0}
