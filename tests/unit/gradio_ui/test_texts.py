from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import gradio_ui
from gradio_ui.texts import LANGUAGES, Texts, preferred_language, table
from student_success.domain.profile import Text
from student_success.domain.students import PROFILE
from student_success.domain.tables.problems import Problem
from tests.source_code import syntax_tree

FOLDER = Path(gradio_ui.__file__).parent


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def _strings(tree: ast.AST) -> set[str]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _strings_in_code() -> set[str]:
    """Return every string literal of the code, and the fixed start of every f-string."""
    trees = [syntax_tree(file) for file in FOLDER.rglob("*.py")]
    return set().union(*map(_strings, trees))


def _keys_of_many() -> set[str]:
    """Return the keys that `Texts.many` is called with by a literal section."""
    keys: set[str] = set()
    for file in FOLDER.rglob("*.py"):
        tree = syntax_tree(file)
        names = _strings(tree)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "many"
            ):
                section = node.args[0]
                assert isinstance(section, ast.Constant)
                # Some names come from a tuple beside the call, so any literal of the file counts.
                keys |= {f"{section.value}.{name}" for name in names}
    return keys


def test_texts_exist_in_both_languages() -> None:
    incomplete = [
        key for key, translations in table().items() if set(translations) != set(LANGUAGES)
    ]
    empty = [
        key
        for key, translations in table().items()
        if not all(t.strip() for t in translations.values())
    ]
    assert incomplete == []
    assert empty == []


def test_texts_have_same_placeholders_in_both_languages() -> None:
    different = [
        key
        for key, translations in table().items()
        if _placeholders(translations["fr"]) != _placeholders(translations["en"])
    ]
    assert different == []


def test_texts_contain_every_key_of_the_code() -> None:
    sections = {key.split(".")[0] for key in table()}
    key_pattern = re.compile(rf"({'|'.join(sections)})\.[a-z_0-9]+")
    unknown = {
        text
        for text in _strings_in_code()
        if key_pattern.fullmatch(text) and text not in table() and not text.endswith(("_", ".js"))
    }
    assert unknown == set()


def test_texts_are_all_used() -> None:
    code = _strings_in_code() | _keys_of_many()
    starts = {text for text in code if text.endswith((".", "_")) and "." in text}
    unused = {
        key
        for key in table()
        if key.removesuffix("_one") not in code
        and key not in code
        and not any(key.startswith(start) for start in starts)
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
def test_preferred_language_follows_accept_language(header: str, language: str) -> None:
    assert preferred_language(header) == language


def test_texts_write_numbers_as_the_language_does() -> None:
    french, english = Texts("fr"), Texts("en")
    assert french.number(1234.56, 2) == "1\u202f234,56"
    assert english.number(1234.56, 2) == "1,234.56"
    assert english.number(9.80, 2, short=True) == "9.8"
    assert french.percent(0.843) == "84\u202f%"
    assert english.percent(0.999) == ">\N{NO-BREAK SPACE}99%"
    assert english.percent(0.001) == "<\N{NO-BREAK SPACE}1%"


def test_texts_keep_french_punctuation_with_its_word() -> None:
    assert "\u00a0:" in Texts("fr")("bad.more", shown=1, total=2) + Texts("fr")(
        "problem.left_out", columns="x"
    )


def test_limit_of_a_table_is_written_as_the_language_does() -> None:
    problem = Problem("too_long", values={"limit": 10_000})
    assert "10\u202f000 lignes" in Texts("fr").choose(problem.text)
    assert "10,000 rows" in Texts("en").choose(problem.text)


def test_texts_join_parts_with_the_punctuation_of_the_language() -> None:
    assert Texts("fr").listed(["a, b", "c"]) == "a, b\u00a0; c"
    assert Texts("en").listed(["a, b", "c"]) == "a, b; c"


def _profile_texts() -> list[Text]:
    fields = (PROFILE.grade, *PROFILE.period, *PROFILE.section, *PROFILE.feature)
    about = [getattr(field, name, None) for field in fields for name in ("label", "help")]
    choices = [choice for feature in PROFILE.feature for choice in feature.choices]
    return [text for text in about if text] + [*choices]


def test_texts_have_the_spaces_of_french_and_of_english_punctuation() -> None:
    entered_as_shown = {"outcome.many_help"}
    pairs = {key: (text["fr"], text["en"]) for key, text in table().items()}
    pairs |= {text.fr: (text.fr, text.en) for text in _profile_texts()}
    french = [
        key for key, (text, _) in pairs.items() if re.search(r"\S[:;?!»%](\s|$)|«\S|[“”]", text)
    ]
    english = [
        key
        for key, (_, text) in pairs.items()
        if key not in entered_as_shown and re.search(r"\s[:;?!%](\s|$)|[«»]", text)
    ]
    assert french == []
    assert english == []
