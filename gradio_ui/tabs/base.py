"""What the tabs have in common: where they live, and how they fail in front of a reader."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import gradio as gr

from gradio_ui.api_client import Api, ApiError
from gradio_ui.html.markup import failure, note
from gradio_ui.texts import Words
from gradio_ui.visitor_state import StrangerError, Visits
from student_success.core.settings import Settings

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]
"""Component to its new value or `gr.update`: what a callback returns."""
P = ParamSpec("P")
R = TypeVar("R", bound="Room")


@dataclass(frozen=True, slots=True)
class House:
    """What every tab of a page is given."""

    words: Words
    api: Api
    visits: Visits
    settings: Settings


class Room:
    """One tab. Its callbacks are methods; what they keep of a visitor is in `Visit`."""

    def __init__(self, house: House) -> None:
        self.words, self.api, self.visits = house.words, house.api, house.visits
        self.settings = house.settings
        self.notice: Any = None

    def build(self) -> None:
        """Lay out the tab; called inside the page."""
        raise NotImplementedError

    def arrive(self, request: gr.Request) -> Updates:
        """Show a visit again that was begun in the other language."""
        del request
        return {}

    @property
    def outputs(self) -> list[Any]:
        """Every component that `arrive` may change."""
        raise NotImplementedError

    def failed(self, error: Exception) -> str:
        """Say what went wrong, in the reader's language."""
        return in_words(self.words, error)

    def build_notice(self) -> None:
        """Place the line where this tab says what went wrong."""
        self.notice = gr.HTML("", elem_classes=["notice"])


def told(method: Callable[Concatenate[R, P], Updates]) -> Callable[Concatenate[R, P], Updates]:
    """Let a callback raise: the reader is told in words, and never sees a traceback."""

    @wraps(method)
    def callback(self: R, *args: P.args, **kwargs: P.kwargs) -> Updates:
        try:
            return {self.notice: "", **method(self, *args, **kwargs)}
        except Exception as error:
            return {self.notice: self.failed(error)}

    # The name is what tells the two types apart; both are called by position.
    return cast(Callable[Concatenate[R, P], Updates], callback)


def in_words(words: Words, error: Exception) -> str:
    """Say what went wrong; of what nobody foresaw the log gets the place, not the values."""
    if isinstance(error, ApiError):
        return failure(words, error)
    if isinstance(error, StrangerError):
        return note("bad", words("error.stranger"))
    # An exception's own message may quote a pupil's values, so it is left out.
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("callback_failed: %s\n%s", type(error).__name__, place)
    return note("bad", words("error.unexpected"))
