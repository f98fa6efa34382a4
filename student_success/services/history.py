"""The prediction history and the outcomes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from student_success.core.memory import release_memory_soon
from student_success.domain.schemas.history import HistoryQuery, Outcome, OutcomesAnswer
from student_success.storage.inference_log.history import History
from student_success.storage.outcomes import Outcomes

logger = logging.getLogger(__name__)

LARGE_PAGE = 200
"""Number of rows; after a larger page, free memory is returned to the operating system."""


class HistoryService:
    """Read and erase predictions, and record outcomes."""

    def __init__(self, *, history: History, outcomes: Outcomes) -> None:
        self._history = history
        self._outcomes = outcomes

    async def page(
        self, query: HistoryQuery, *, session_id: str | None, administrator: bool
    ) -> list[dict[str, Any]]:
        """Return predictions, newest first; of all sessions if `session_id` is None."""
        if query.limit >= LARGE_PAGE:
            release_memory_soon()
        return await asyncio.to_thread(
            self._history.page,
            limit=query.limit,
            session_id=session_id,
            before_id=query.before_id,
            with_replaced=administrator,
        )

    async def erase(self, session_id: str) -> dict[str, Any]:
        """Erase the predictions and outcomes of a session for good."""
        erased = await asyncio.to_thread(self._history.erase_session, session_id)
        logger.info("session_erased", extra={"rows": erased})
        return {"session_id": session_id, "erased": erased}

    async def record_outcomes(self, outcomes: Sequence[Outcome], *, actor: str) -> OutcomesAnswer:
        """Record the final grades that pupils obtained, and the role that recorded them."""
        answer = await asyncio.to_thread(self._outcomes.record, outcomes, recorded_by=actor)
        logger.info(
            "outcomes_recorded",
            extra={"accepted": answer.accepted, "rejected": len(answer.rejected)},
        )
        return answer
