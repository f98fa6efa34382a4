from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import gradio_ui
from gradio_ui.texts import LANGUAGES, Words, preferred, table

FOLDER = Path(gradio_ui.__file__).parent


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def _named_in_code() -> set[str]:
    """Every literal in the code that has the form of a key, and every f-string's fixed start."""
    found: set[str] = set()
    for file in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_text_is_in_both_languages() -> None:
    lacking = [key for key, words in table().items() if set(words) != set(LANGUAGES)]
    empty = [key for key, words in table().items() if not all(w.strip() for w in words.values())]
    assert lacking == []
    assert empty == []


def test_placeholders_are_the_same_in_both_languages() -> None:
    odd = [
        key
        for key, words in table().items()
        if _placeholders(words["fr"]) != _placeholders(words["en"])
    ]
    assert odd == []


def test_every_key_the_code_names_is_in_the_table() -> None:
    rooms = {key.split(".")[0] for key in table()}
    shaped = re.compile(rf"({'|'.join(rooms)})\.[a-z_0-9]+")
    unknown = {
        text
        for text in _named_in_code()
        if shaped.fullmatch(text) and text not in table() and not text.endswith(("_", ".js"))
    }
    assert unknown == set()


def test_every_text_is_used() -> None:
    code = _named_in_code()
    starts = {text for text in code if text.endswith((".", "_")) and "." in text}
    unused = {
        key
        for key in table()
        if key not in code and not any(key.startswith(start) for start in starts)
    }
    assert unused == set()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "fr"),
        ("en-GB,en;q=0.9", "en"),
        ("fr-CA,fr;q=0.9,en;q=0.8", "fr"),
        ("de,en;q=0.5,fr;q=0.4", "en"),
        ("de", "fr"),
        ("en;q=0,fr;q=0.1", "fr"),
        ("en;q=nonsense", "fr"),
    ],
)
def test_the_browser_chooses_the_language(header: str, language: str) -> None:
    assert preferred(header) == language


def test_numbers_are_written_as_the_language_does() -> None:
    french, english = Words("fr"), Words("en")
    assert french.number(1234.56, 2) == "1\u202f234,56"
    assert english.number(1234.56, 2) == "1,234.56"
    assert english.number(9.80, 2, short=True) == "9.8"
    assert french.percent(0.843) == "84\u202f%"
    assert english.percent(0.999) == "> 99%"
    assert english.percent(0.001) == "< 1%"


def test_french_punctuation_stays_with_its_word() -> None:
    assert "\u00a0:" in Words("fr")("bad.more", shown=1, total=2) + Words("fr")(
        "class.ignored", columns="x"
    )
