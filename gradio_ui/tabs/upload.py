"""A file from the reader's disk to a callback, without ever being a file on the server.

The browser reads it and sends what is in it, so the server keeps no uploads, and no callback takes
a path: Gradio's own file component would hand a mounted page any path that it is given.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import gradio as gr

from gradio_ui.files.spreadsheet import UnreadableError
from gradio_ui.tabs.base import Updates
from gradio_ui.texts import Words

_TYPES = ".csv,.txt,.xlsx"

_READ = """
const zone = element.querySelector(".drop");
const input = element.querySelector("input");
const said = element.querySelector("[role=status]");
const take = (file) => {
  if (!file) return;
  if (file.size > Number(zone.dataset.limit)) { said.textContent = zone.dataset.large; return; }
  said.textContent = file.name;
  const reader = new FileReader();
  reader.onload = () => {
    const data = String(reader.result).split(",")[1] || "";
    window.studentSuccess.file = { name: file.name, data };
    trigger("click");
  };
  reader.onerror = () => { said.textContent = zone.dataset.unreadable; };
  reader.readAsDataURL(file);
};
input.addEventListener("change", () => { take(input.files[0]); input.value = ""; });
for (const name of ["dragover", "dragleave", "drop"]) {
  zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
"""
_GIVE = """
() => {
  const file = window.studentSuccess.file;
  window.studentSuccess.file = null;
  return [file];
}
"""


def content(given: Any, *, limit: int) -> tuple[str, bytes]:
    """Return name and content of what a browser sent.

    Raises
    ------
    UnreadableError
        If it is nothing of the kind, or larger than `limit` bytes.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("data"), str):
        raise UnreadableError("file.empty")
    try:
        data = base64.b64decode(given["data"], validate=True)
    except binascii.Error:
        raise UnreadableError("file.not_a_table") from None
    if len(data) > limit:
        raise UnreadableError("file.too_large")
    return str(given.get("name", "")), data


class Upload:
    """A place to drop a file, or to choose one."""

    def __init__(self, words: Words, *, megabytes: int) -> None:
        self._words, self._megabytes = words, megabytes
        self._zone: Any = None
        self._given: Any = None

    def build(self) -> None:
        """Lay it out."""
        words = self._words
        told = {
            "limit": str(self._megabytes << 20),
            "large": words("file.too_large"),
            "unreadable": words("file.not_a_table"),
        }
        data = " ".join(f'data-{name}="{escape(text)}"' for name, text in told.items())
        asked = escape(words("class.upload"))
        limits = escape(words("class.limits", limit=self._megabytes))
        self._zone = gr.HTML(
            f'<label class="drop" {data}><input type="file" accept="{_TYPES}">'
            f"<strong>{asked}</strong><span>{limits}</span>"
            '<span role="status" class="chosen"></span></label>',
            js_on_load=_READ,
            elem_id="upload",
        )
        self._given = gr.JSON(visible=False)

    def tie(self, callback: Callable[..., Updates], outputs: list[Any], *, api_name: str) -> None:
        """Call back with what the reader chose."""
        self._zone.click(
            callback,
            inputs=[self._given],
            outputs=outputs,
            js=_GIVE,
            api_name=api_name,
            show_progress="hidden",
        )
