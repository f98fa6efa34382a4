"""`docs/configuration.md` is made from the settings."""

from __future__ import annotations

from student_success.cli.configuration import markdown
from student_success.core.configuration.names import GROUPS, INTERNAL, REMOVED, RENAMED
from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT

DOCUMENT = (ROOT / "docs" / "configuration.md").read_text("utf-8")


def test_document_is_made_from_the_settings() -> None:
    assert markdown() == DOCUMENT, "run `student-success configuration > docs/configuration.md`"


def test_every_setting_stands_in_the_document_once() -> None:
    for name in Settings.model_fields:
        assert DOCUMENT.count(f"| `{name.upper()}` |") == (name not in INTERNAL)


def test_every_group_begins_with_a_setting_and_has_its_title() -> None:
    assert set(GROUPS.values()) <= set(Settings.model_fields)
    for title in GROUPS:
        assert f"\n## {title}\n" in DOCUMENT


def test_old_names_stand_in_the_document_and_are_no_settings() -> None:
    for name in (*RENAMED, *REMOVED):
        assert f"`{name}`" in DOCUMENT
        assert name.lower() not in Settings.model_fields
