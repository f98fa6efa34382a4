"""The interface with the profile of another school, from no model to a class list."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gradio_ui.texts import Texts
from tests.browser.conftest import (
    Open,
    open_models,
    open_tab,
    predict_example,
    ready,
    see,
    start_training,
    unfold,
)
from tests.schools import make_pupils, write_profile, write_pupils
from tests.server import Server
from tests.ui_server import UiServer, interface

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

START_SECONDS = 60.0
SCHOOL = "lower-is-better"
"""Grades from 1, the best, to 6 in steps of 0.5."""


@pytest.fixture(scope="module")
def school(
    chromium: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[UiServer, Path]]:
    """Return interface and class list of a made-up school that has no model yet."""
    del chromium
    folder = tmp_path_factory.mktemp(SCHOOL)
    profile = write_profile(folder / "school.toml", SCHOOL)
    write_pupils(folder / "pupils.csv", profile, pupils=600)
    rows = make_pupils(profile, pupils=30, seed=2)
    with (folder / "class.csv").open("w", encoding="utf-8", newline="") as file:
        known = [name for name in rows[0] if name != profile.grade.column]
        writer = csv.DictWriter(file, known, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    settings = {"PROFILE_PATH": str(folder / "school.toml")}
    server = Server(folder / "state", DATA_PATH=str(folder / "pupils.csv"), **settings)
    server.start(wait=False)
    try:
        with interface(folder, server.url, **settings) as ui:
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    httpx.get(f"{server.url}/livez", timeout=5)
                    break
                except httpx.HTTPError:
                    assert time.monotonic() < end, server.tail()
                    time.sleep(0.1)
            yield ui, folder / "class.csv"
    finally:
        server.stop()


def test_school_comes_from_no_model_to_a_ranked_class(
    visit: Open, school: tuple[UiServer, Path]
) -> None:
    ui, class_list = school
    page, texts = visit("en", ui.url), Texts("en")
    # Its trainings may still use the machine.
    page.set_default_timeout(60_000)
    page.wait_for_selector(f"text={texts('banner.unavailable')}")
    assert f"School {SCHOOL}" in page.locator(".top").inner_text()
    page.click("#example")
    page.wait_for_selector(f"text={texts('error.model_unavailable')}")

    open_models(page)
    page.wait_for_selector(f"text={texts('models.none_served', school=f'School {SCHOOL}')}")
    _train_and_promote(page, texts, 1)
    page.wait_for_selector(f"text={texts('banner.unavailable')}", state="detached")

    open_tab(page, 0)
    predict_example(page)
    shown = float(page.locator("#answer .big").inner_text())
    assert 1 <= shown <= 6
    assert shown % 0.5 == 0
    scale = page.locator("#answer svg.scale").first
    numbers = scale.locator("text.number").all_text_contents()
    assert numbers == ["1", "2", "3", "4", "5", "6"]

    _check_unknown_answers(page, texts)

    open_tab(page, 1)
    page.set_input_files("#class-upload input", class_list)
    page.click("#score")
    page.wait_for_selector("#ranking tbody tr:nth-child(30)")
    assert page.locator("#class-overview svg.bars rect").count() <= 25
    grades = page.locator("#ranking [data-cell=grade] strong").all_inner_texts()
    assert all(1 <= float(grade) <= 6 and float(grade) % 0.5 == 0 for grade in grades)
    assert float(grades[0]) > float(grades[-1]), "the pupil most at risk comes first"
    page.click("#ranking tbody tr:first-child")
    page.wait_for_selector("#class-answer .reasons")

    open_tab(page, 2)
    page.click(f"text={texts('outcome.title')}")
    reference = page.locator("#history-table tbody tr:first-child [data-title=Reference]")
    pupil = reference.inner_text()
    page.fill("#outcome-many textarea", f"{pupil};1,3")
    page.click("#outcome-save")
    page.wait_for_selector(f"text={texts('outcome.nothing_saved')}")
    page.fill("#outcome-many textarea", f"{pupil};1,5")
    page.click("#outcome-save")
    page.wait_for_selector(f"text={texts('outcome.accepted', count=1)}")

    open_tab(page, 4)
    # So few predictions are no drift.
    see(page, "#conclusion .note.good")

    open_tab(page, 3)
    _train_and_promote(page, texts, 2)
    page.fill("#reason textarea, #reason input", "not as good as it seemed")
    page.click("#roll-back")
    served = texts("models.rolled_back", version=texts("model.version", version=1))
    page.wait_for_selector(f"#tab-models .block.notice >> text={served}", timeout=60_000)


def _train_and_promote(page: Any, texts: Texts, version: int) -> None:
    start_training(page)
    page.wait_for_selector("#job .note.good", timeout=200_000)
    page.fill("#version input", str(version))
    page.keyboard.press("Enter")
    page.wait_for_selector("#evidence table", timeout=120_000)
    page.fill("#reason textarea, #reason input", "looked at")
    page.click("#promote")
    page.wait_for_selector("#promote:disabled")
    page.wait_for_selector("#promote:enabled", timeout=120_000)
    notice = page.locator("#tab-models .block.notice").inner_text()
    promoted = texts("models.promoted", version=version)
    assert promoted in notice, page.locator("#evidence").inner_text()


def _check_unknown_answers(page: Any, texts: Texts) -> None:
    """A form with what weighs most gives an estimate; the rest is not known until it is given."""
    page.click("#empty")
    page.click(f"#field-known >> text={texts('known.none')}")
    page.wait_for_selector("#field-spring", state="hidden")
    assert not page.is_visible("#field-track")
    page.click("#predict")
    page.wait_for_selector(".field.bad")
    assert page.locator("#more .field.bad").count() == 0
    for field, value in (("n0", "3"), ("n2", "20"), ("n3", "0,5")):
        page.fill(f"#field-{field} textarea", value)
    page.click("#predict")
    page.wait_for_selector(f"text={texts.count('result.unknown', 2)}")
    unfold(page)
    assert page.get_attribute("#more-button", "aria-expanded") == "true"
    page.click("#field-track input[value=track-1]")
    page.wait_for_selector("#answer .outdated:not(:empty)")
    page.click("#predict")
    page.wait_for_selector(f"text={texts.count('result.unknown', 1)}")
    page.click(f"#field-track >> text={texts('form.not_known')}")
    # A wrong value in a folded field brings it into sight.
    page.fill("#field-n1 textarea", "7")
    page.click("#more-button")
    page.click("#predict")
    page.wait_for_selector("#field-n1.bad")
    see(page, "#field-n1")
    page.reload()
    ready(page)
    assert page.input_value("#field-n1 textarea") == "7"
    assert not page.is_visible("#field-n1")
