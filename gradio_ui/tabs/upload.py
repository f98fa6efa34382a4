"""Receive a file from the reader's browser without storing it on the server.

The browser reads the file and sends its content, so the server keeps no uploads and no callback
takes a path. Gradio's own file component accepts any path of the server in a mounted page.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import gradio as gr

from gradio_ui.html.markup import Html, element
from gradio_ui.texts import Texts
from student_success.domain.tables.problems import refuse

_EXTENSIONS = ".csv,.tsv,.txt,.xlsx,.xls,.ods,.zip"

_READ_SCRIPT = """
const zone = element.querySelector(".drop");
const input = element.querySelector("input");
const status = element.querySelector("[role=status]");
const take = (file) => {
  if (!file) return;
  if (file.size > Number(zone.dataset.limit)) {
    status.textContent = zone.dataset.tooLarge;
    return;
  }
  status.textContent = file.name;
  const reader = new FileReader();
  reader.onload = () => {
    const data = String(reader.result).split(",")[1] || "";
    window.studentSuccess[zone.dataset.slot] = { name: file.name, data };
    trigger("click");
  };
  reader.onerror = () => { status.textContent = zone.dataset.unreadable; };
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


def send_script(part: str) -> str:
    """Return the script that sends the chosen file as the first input of a callback.

    The browser keeps it, so that it can be sent again with other choices: the server does not.

    Parameters
    ----------
    part
        Name of the upload area, as `Upload` was given it.
    """
    return f"(_, ...rest) => [window.studentSuccess.{_slot(part)} ?? null, ...rest]"


def _slot(part: str) -> str:
    return f"{part}File"


def uploaded_file(value: Any, *, limit: int) -> bytes:
    """Return the content of an uploaded file.

    Parameters
    ----------
    limit
        Largest content, in bytes.

    Raises
    ------
    TableError
        If the browser sent something else, or more than `limit`.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), str):
        raise refuse("empty")
    try:
        data = base64.b64decode(value["data"], validate=True)
    except binascii.Error:
        raise refuse("not_a_table") from None
    if len(data) > limit:
        raise refuse("too_large")
    return data


class Upload:
    """An area to drop a file on, or to click for choosing one.

    Attributes
    ----------
    zone
        The component whose click event means that a file was chosen.
    content
        The input of the callback; `send_script` fills it.

    Parameters
    ----------
    part
        Part of the page, the first word of the element's id.
    title, limits
        Keys of the texts in the area.
    """

    def __init__(self, texts: Texts, part: str, title: str, limits: str, *, megabytes: int) -> None:
        area = element(
            "label",
            Html(f'<input type="file" accept="{_EXTENSIONS}">'),
            element("strong", texts(title)),
            element("span", texts(limits, limit=megabytes)),
            element("span", css="chosen", role="status"),
            css="drop",
            data_slot=_slot(part),
            data_limit=str(megabytes << 20),
            data_too_large=texts("problem.too_large"),
            data_unreadable=texts("problem.not_a_table"),
        )
        self.zone: Any = gr.HTML(area, js_on_load=_READ_SCRIPT, elem_id=f"{part}-upload")
        self.content: Any = gr.JSON(visible=False)
