"""A BentoML method that does nothing, as BentoML is installed."""

from __future__ import annotations

import bentoml


@bentoml.service(name="empty_bento")
class EmptyBento:
    """Nothing."""

    @bentoml.api
    def predict(self) -> dict[str, float]:
        """Answer without looking."""
        return {"predicted_G3": 10.0}
