"""What all tabs share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from gradio_ui.tabs.base import Context, Tab, Updates


class Quiet(Tab):
    """A tab whose callback may have nothing to show."""

    says: tuple[str, ...] = ()

    def build(self) -> None:
        self.notice, self.answer = gr.HTML("kept"), gr.HTML("kept")
        self.outputs = [self.notice, self.answer]
        self.bind(gr.Button().click, self.answers, name="answers")

    def answers(self) -> Iterator[Updates]:
        for text in self.says:
            yield {self.answer: text}


@pytest.mark.parametrize(
    ("says", "changed"),
    [((), [[]]), (("one",), [["one"]]), (("one", "two"), [["one"], ["two"]])],
)
def test_callback_that_yields_nothing_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, says: tuple[str, ...], changed: list[list[str]]
) -> None:
    monkeypatch.setattr(Quiet, "says", says)
    nothing: Any = None
    with gr.Blocks() as blocks:
        Quiet(Context(nothing, nothing, nothing, nothing))
    shown = asyncio.run(shown_by(blocks))
    assert [[value for value in data if isinstance(value, str)] for data in shown] == changed
    # Gradio would empty a component for which it gets None.
    assert None not in [value for data in shown for value in data]


async def shown_by(blocks: gr.Blocks) -> list[list[Any]]:
    """Return the values for the outputs, each time that the callback shows something."""
    (function,) = (f for f in blocks.fns.values() if f.api_name == "answers")
    shown, iterator = [], None
    while True:
        done = await blocks.process_api(function, [], iterator=iterator)
        # At its end it shows what it showed last.
        if done["is_generating"] or not shown:
            shown.append(done["data"])
        if not done["is_generating"]:
            return shown
        iterator = done["iterator"]
