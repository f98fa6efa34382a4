"""Packages and modules stay small enough to find one's way in them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from student_success.core.paths import ROOT
from tests.source_code import syntax_tree

MAX_LINES = 300
MAX_MODULES = 12
TABLES_OF_DECLARATIONS = {
    "student_success/domain/tables/problems.py": "two sentences for each problem",
}
PACKAGES = [
    path.parent
    for package in ("student_success", "training", "gradio_ui")
    for path in sorted((ROOT / package).rglob("__init__.py"))
]
MODULES = [ROOT / "service.py", ROOT / "grade_models.py"]
MODULES += [module for package in PACKAGES for module in sorted(package.glob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_module_is_at_most_300_lines(module: Path) -> None:
    lines = len(module.read_text("utf-8").splitlines())
    if name_of(module) in TABLES_OF_DECLARATIONS:
        assert lines > MAX_LINES, "short enough now: take it off the list"
    else:
        assert lines <= MAX_LINES


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_package_has_at_most_12_modules(package: Path) -> None:
    modules = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES
    assert not {"utils.py", "helpers.py", "common.py", "misc.py"} & set(modules)


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_package_says_what_it_holds(package: Path) -> None:
    assert (package / "__init__.py").read_text("utf-8").startswith('"""')


PARTICULAR = re.compile(r"(?<![A-Za-z0-9])(G[123]|GP|absences)(?![A-Za-z0-9])")
"""Names that only the profile that ships may know."""
SHIPPED = "uci.toml"
EXAMPLES_OF_THE_SHIPPED_PROFILE = {
    "student_success/domain/schemas/base.py": "an example in a docstring",
    "student_success/lifecycle/evidence.py": "an example in a docstring",
    "student_success/model/artefact.py": "an example in a docstring",
}
PARTICULAR_ALLOWED = "student_success/storage/migrations/"
"""A migration describes the tables of earlier versions."""


def test_only_the_profile_knows_the_names_of_one_school() -> None:
    found = {
        name
        for package in ("student_success", "gradio_ui")
        for path in (ROOT / package).rglob("*.[pt][yo]*")
        if path.suffix in (".py", ".toml") and path.name != SHIPPED
        if not (name := path.relative_to(ROOT).as_posix()).startswith(PARTICULAR_ALLOWED)
        and PARTICULAR.search(path.read_text("utf-8"))
    }
    assert found == set(EXAMPLES_OF_THE_SHIPPED_PROFILE)


GRADES = re.compile(r"grade|actual|predicted|mark|level", re.IGNORECASE)
ONE_SCALE = (9.5, 10, 20, 21)
"""Pass mark, best grade and number of grades of the shipped profile."""
ABOUT_ONE_SCALE = {
    "student_success/services/prediction.py": "tenths of any scale",
    "training/report/plots.py": "the study's pupils",
}


def test_no_code_compares_or_computes_with_the_scale_of_one_school() -> None:
    found = set()
    for module in MODULES:
        for node in ast.walk(syntax_tree(module)):
            match node:
                case ast.Compare():
                    parts = [node.left, *node.comparators]
                case ast.BinOp():
                    parts = [node.left, node.right]
                case ast.Call():
                    parts = [node.func, *node.args, *(keyword.value for keyword in node.keywords)]
                case _:
                    continue
            constants = {p.value for p in parts if isinstance(p, ast.Constant)}
            others = " ".join(ast.unparse(p) for p in parts if not isinstance(p, ast.Constant))
            if constants & set(ONE_SCALE) and GRADES.search(others):
                found.add(name_of(module))
    assert found == set(ABOUT_ONE_SCALE)


def test_tests_parse_modules_with_the_helper_that_cannot_fail_at_random() -> None:
    parsed = "ast.parse" + "("
    files = (ROOT / "tests").rglob("*.py")
    found = {name_of(path) for path in files if parsed in path.read_text("utf-8")}
    assert found == {"tests/source_code.py"}
