"""What all tabs share: their context, how they bind events, and how they report errors."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import gradio as gr

from gradio_ui.api_client import ApiClient, ApiError
from gradio_ui.files.export import SAVE_SCRIPT, Format, build_file
from gradio_ui.html.markup import api_error, heading, note, paragraph
from gradio_ui.texts import Texts
from gradio_ui.visitor_state import OtherBrowserError, Visits
from student_success.core.configuration.settings import Settings

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]
"""Component to its new value or `gr.update`: the result of a callback."""
P = ParamSpec("P")
T = TypeVar("T", bound="Tab")


@dataclass(frozen=True, slots=True)
class Context:
    """What every tab of a page needs."""

    texts: Texts
    api: ApiClient
    visits: Visits
    settings: Settings


class Tab:
    """One tab. Its callbacks are methods; what they remember of a visitor is in `Visit`.

    Attributes
    ----------
    notice
        The line in which the tab reports errors and results.
    outputs
        Every component that `restore` and most callbacks may change; set by `build`.
    """

    notice: Any
    outputs: list[Any]

    def __init__(self, context: Context) -> None:
        self.texts, self.api, self.visits = context.texts, context.api, context.visits
        self.settings = context.settings
        self.build()

    def build(self) -> None:
        """Create the components and bind their events; runs inside `gr.Blocks`."""
        raise NotImplementedError

    def restore(self, request: gr.Request) -> Updates:
        """Show a visit again that an earlier page of the same browser tab began."""
        del request
        return {}

    def bind_selection(self, event: Any) -> None:
        """Bind what happens when the reader turns to this tab."""

    def bind_opening(self, event: Any) -> None:
        """Bind what happens after the page was opened and `restore` has shown it."""

    def describe_error(self, error: Exception) -> str:
        """Return a message for the reader about an error."""
        return describe_error(self.texts, error)

    def failure(self, key: str, **values: object) -> Updates:
        """Return an update that reports a problem in the notice."""
        return {self.notice: note("bad", self.texts(key, **values))}

    def success(self, key: str, **values: object) -> Updates:
        """Return an update that reports a success in the notice."""
        return {self.notice: note("good", self.texts(key, **values))}

    def add_lead(self, key: str) -> None:
        """Add the introduction of the tab."""
        gr.HTML(paragraph(self.texts(key), "lead"))

    def add_notice(self) -> None:
        """Add the line in which this tab reports errors."""
        self.notice = gr.HTML("", elem_classes=["notice"])

    def add_download(self) -> None:
        """Add the hidden component that carries files to the browser."""
        self._file = gr.JSON(visible=False)

    def bind(
        self,
        event: Any,
        callback: Callable[..., Any],
        inputs: Sequence[Any] = (),
        outputs: Sequence[Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Run a callback on an event.

        Parameters
        ----------
        outputs
            The components that may change; `self.outputs` by default.
        name
            The event's name for API clients. Events without a name are only for the page.
        """
        options.setdefault("show_progress", "hidden")
        options |= {"api_name": name} if name else {"api_visibility": "private"}
        changed = self.outputs if outputs is None else list(outputs)
        if isgeneratorfunction(callback):
            callback = _unless_nothing(callback)
        return event(callback, inputs=list(inputs), outputs=changed, **options)

    def bind_download(
        self,
        button: Any,
        make_file: Callable[..., dict[str, str]],
        file_format: Format,
        inputs: Sequence[Any] = (),
        name: str | None = None,
    ) -> None:
        """Let a button save a file. `make_file` gets the request, the format and the inputs."""
        inputs = [gr.State(file_format), *inputs]
        self.bind(button.click, make_file, inputs, [self._file], name).then(
            None, inputs=[self._file], js=SAVE_SCRIPT, api_visibility="private"
        )

    def make_file(
        self, file_format: Format, name: str, titles: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> dict[str, str]:
        """Make a file for `bind_download`; `name` is the key of its name."""
        comma = self.texts.language == "fr"
        return build_file(file_format, self.texts(name), titles, rows, decimal_comma=comma)


def report_errors(
    method: Callable[Concatenate[T, P], Updates],
) -> Callable[Concatenate[T, P], Updates]:
    """Report an exception of a callback in the tab's notice, without a traceback."""

    @wraps(method)
    def callback(self: T, *args: P.args, **kwargs: P.kwargs) -> Updates:
        try:
            return {self.notice: "", **method(self, *args, **kwargs)}
        except Exception as error:
            return {self.notice: self.describe_error(error)}

    # The two types differ only in a parameter's name; Gradio passes arguments by position.
    return cast(Callable[Concatenate[T, P], Updates], callback)


def _unless_nothing(callback: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Let a callback that yields nothing change nothing; Gradio would empty all its outputs."""

    @wraps(callback)
    def changing(*arguments: Any) -> Iterator[Any]:
        updates = callback(*arguments)
        yield next(updates, gr.skip())
        yield from updates

    return changing


def describe_error(texts: Texts, error: Exception) -> str:
    """Return a message about an error; unexpected errors are also logged."""
    if isinstance(error, ApiError):
        return api_error(texts, error)
    if isinstance(error, OtherBrowserError):
        return note("bad", texts("error.other_browser"))
    # The message of an exception may contain a pupil's values, so only the place is logged.
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("callback_failed: %s\n%s", type(error).__name__, place)
    return note("bad", texts("error.unexpected"))


def reveal(event: Any, elem_id: str) -> Any:
    """After an event, bring an element into the window, or the first invalid field before it."""
    script = f"() => window.studentSuccess.reveal('{elem_id}')"
    return event.then(None, js=script, api_visibility="private")


def add_part(title: str, explanation: str = "") -> None:
    """Add the heading of a part of a tab, and a sentence below it."""
    gr.HTML(heading(title) + (paragraph(explanation) if explanation else ""))


def small_button(text: str, elem_id: str, **options: Any) -> Any:
    """Add a small button."""
    return gr.Button(text, size="sm", elem_id=elem_id, **options)
