"""A BentoML method that does nothing, as BentoML is installed."""

from __future__ import annotations

import bentoml


@bentoml.service(name="empty_bento")
class EmptyBento:
    """A service with one empty method."""

    @bentoml.api
    def predict(self) -> dict[str, float]:
        """Return a constant."""
        return {"predicted_G3": 10.0}
