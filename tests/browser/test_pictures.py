"""The pictures of README and docs/ui.md, made again by PICTURES_DIR=docs/img."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Open, predict_example, see

pytestmark = pytest.mark.browser

MAX_BYTES = 150_000


def _save(page: Any, path: Path) -> None:
    """Save the window with few colours, which takes a third of the bytes."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: see the extra `dev`")
    page.wait_for_timeout(500)
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    with image.open(path) as picture:
        few = picture.convert("RGB").quantize(128)
    few.save(path, optimize=True)
    assert path.stat().st_size < MAX_BYTES


def test_ranked_class_with_an_opened_pupil_is_pictured(visit: Open, pictures: Path) -> None:
    page = visit("en", tab="class")
    page.click("#example-class")
    page.wait_for_selector("#ranking tbody tr")
    page.click("#ranking tbody tr:first-child")
    page.wait_for_selector("#class-answer .reasons")
    see(page, "#class-answer .verdict")
    _save(page, pictures / "class.png")


def test_answer_for_one_pupil_is_pictured(visit: Open, pictures: Path) -> None:
    page = visit("en")
    predict_example(page)
    see(page, "#answer .verdict")
    _save(page, pictures / "pupil.png")
