"""The documents say what is true: examples, figures, routes, commands, paths and test names."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from student_success.api.endpoints import ENDPOINTS
from student_success.core.configuration.settings import Settings
from student_success.domain.decision import INTERVAL_LEVEL
from student_success.domain.schemas.prediction import PredictionAnswer
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.predictor import Predictor
from tests.documented_commands import LISTED, documents, name_of, scripts
from tests.source_code import syntax_tree

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")} - {ROOT / "CHANGELOG.md"})
BASES = (ROOT, ROOT / "student_success", ROOT / "tests", ROOT / "deploy" / "kubernetes")
"""Folders that a path in a document may start at."""
LONGEST_README = 150


def test_answer_shown_is_the_answer_of_the_seed() -> None:
    found = re.search(r'```json\n(\{"prediction_id".*?)\n```', README, re.DOTALL)
    assert found is not None
    shown = json.loads(found.group(1))
    said = Predictor.load(Settings().seed_model_path, version="seed").predict(
        StudentFeatures.model_validate(EXAMPLE)
    )
    assert set(shown) == set(PredictionAnswer.model_fields) - {"synthetic_model", "unusual"}
    assert shown["interval"] == {"low": said.low, "high": said.high, "level": INTERVAL_LEVEL}
    assert shown["predicted_G3"] == said.grade
    for name in ("decision", "pass_probability", "horizon", "at_risk"):
        assert shown[name] == getattr(said, name), name


def test_figures_are_those_of_the_report() -> None:
    report = (ROOT / "docs" / "model-report.md").read_text("utf-8")
    parts = {part.split("\n", 1)[0]: part for part in report.split("### Known: ")[1:]}
    words = {"both period grades": "G1+G2", "the first one": "G1", "none yet": "none"}
    shown = re.findall(
        r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", README, re.M
    )
    assert {row[0] for row in shown} == set(words)
    for known, *figures in shown:
        for name, (ours, rule) in {"MAE": figures[:2], "pass/fail accuracy": figures[2:]}.items():
            line = rf"^\| {name} \| {ours} ± [\d.]+ \| {rule} ± [\d.]+ \|$"
            assert re.search(line, parts[words[known]], re.M), (known, name)


def test_every_path_in_a_command_is_a_route() -> None:
    paths = {endpoint.path for endpoint in ENDPOINTS}
    named = set(re.findall(r"localhost:8000(/[a-z_]+)", README))
    assert named
    assert named <= paths


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def test_commands_of_a_document_are_found(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(
        "Run `make\nup`, not `make` or `GET /health`.\n\n"
        "1. A block:\n\n   ```bash\n   # first\n   TOKEN=x   # a comment\n"
        "   curl -d '{\n     \"a\": 1}' \\\n     localhost\n   ```\n\n| `A=1 docker/backup ...` |\n"
    )
    block = ("TOKEN=x   # a comment", "curl -d '{\n  \"a\": 1}' \\\n  localhost")
    found = [script.lines for script in scripts(str(document))]
    assert found == [("make up",), block, ("A=1 docker/backup ...",)]
    assert [name_of(line) for line in block] == ["TOKEN=x", "curl -d '{"]
    document.write_text("```sh\nmake up\n```\n")
    scripts.cache_clear()
    with pytest.raises(AssertionError, match="```sh"):
        scripts(str(document))


def test_commands_that_are_not_run_are_in_a_document_and_listed_once() -> None:
    names = [command.strip() for entry in LISTED for command in entry["commands"]]
    printed = {
        name_of(line)
        for document in documents()
        for script in scripts(document)
        for line in script.lines
    }
    assert sorted(set(names)) == sorted(names)
    assert set(names) <= printed


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["commands"][0][:40])
def test_commands_that_are_not_run_have_a_test_or_a_reason(entry: dict[str, Any]) -> None:
    assert len({"run_by", "server", "reason"} & set(entry)) == 1
    path, _, function = (entry.get("run_by") or entry.get("like") or "").partition("::")
    text = (ROOT / path).read_text("utf-8") if path else ""
    if function:
        assert function in functions(ROOT / path)
    elif path:
        assert not [command for command in entry["commands"] if command not in text]
    if "run_by" in entry:
        assert f'commands_of("{function}")' in text


def find_file(path: str) -> Path | None:
    """Return the file that a document names."""
    return next((base / path for base in BASES if (base / path).is_file()), None)


@cache
def functions(path: Path) -> set[str]:
    """Return the names of the functions in a file."""
    tree = syntax_tree(path)
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_in_a_document_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    paths = re.findall(r"`([\w./-]+\.(?:py|toml|yml|yaml|sh))\b", text)
    missing = {path for path in paths if find_file(path) is None} - NOT_IN_THE_TREE
    assert not missing
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", text)
    assert not [link for link in links if not (document.parent / link).exists()]


NOT_IN_THE_TREE = {"code/grade_models.py", "school.toml"}
"""A file inside a registered version, and one that the reader makes."""


def test_every_test_named_in_a_document_exists() -> None:
    named = 0
    for document in DOCUMENTS:
        path = None
        for file, function in re.findall(
            r"`([\w./-]*\.py)?(?:::(\w+))?`", document.read_text("utf-8")
        ):
            path = find_file(file) if file else path
            if function:
                named += 1
                assert path is not None, (document.name, file, function)
                assert function in functions(path), (document.name, path.name, function)
    assert named > 10


def test_architecture_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    packages = {path.parent.name for path in (ROOT / "student_success").glob("*/__init__.py")}
    assert packages
    assert not {name for name in packages if name not in text}


def test_events_searched_for_in_the_runbook_are_logged() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    patterns = re.findall(r"grep (?:-E )?'\"event\": \"\(?([a-z_|]+)", text)
    names = {name for pattern in patterns for name in pattern.split("|")}
    assert len(names) > 4
    sources = (ROOT / "student_success").rglob("*.py")
    logged = set(
        re.findall(
            r"logger\.\w+\(\s*\"(\w+)\"", "".join(path.read_text("utf-8") for path in sources)
        )
    )
    assert not [name for name in names if not any(event.startswith(name) for event in logged)]
