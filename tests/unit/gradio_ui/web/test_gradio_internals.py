"""Compare what the interface knows of Gradio's undocumented parts with the installed version."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gradio_ui
from gradio_ui.web import gradio_internals
from gradio_ui.web.gradio_internals import (
    CSS_NAMES,
    MAX_PAGES,
    QUEUE_SECONDS,
    READ_ROUTES,
    TEST_IDS,
    WRITE_ROUTES,
    keep_fewer_pages,
    poll_queue_less_often,
    prepare_page,
    refuse_file_paths,
    session_of_heartbeat,
)
from tests.source_code import syntax_tree

# Gradio leaves the event loops of a page open.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
FOLDER = Path(gradio_ui.__file__).parent


@pytest.fixture(scope="module")
def blocks() -> Iterator[Any]:
    import gradio as gr

    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML("")
    yield page
    del page
    gc.collect()


@pytest.fixture(scope="module")
def frontend() -> Path:
    import gradio as gr

    return Path(gr.__file__).parent / "templates" / "frontend"


@pytest.fixture(scope="module")
def routes(blocks: Any) -> set[str]:
    """Return every route of a mounted page, its parameters replaced with a letter."""
    import gradio as gr
    from fastapi import FastAPI

    app = FastAPI()
    gr.mount_gradio_app(app, blocks, path="/en", ssr_mode=False)
    mounted: Any = next(route for route in app.routes if getattr(route, "path", "") == "/en")
    return {re.sub(r"\{[^}]*\}", "x", path) for path in mounted.app.openapi()["paths"]}


@pytest.mark.parametrize("route", [*READ_ROUTES, *WRITE_ROUTES])
def test_allowed_route_exists_in_gradio(route: str, routes: set[str]) -> None:
    assert any(re.fullmatch(route, path) for path in routes)


def test_routes_that_reach_files_are_not_allowed(routes: set[str]) -> None:
    allowed = re.compile("|".join([*READ_ROUTES, *WRITE_ROUTES]))
    dangerous = {
        path
        for path in routes
        if re.search("file|proxy|upload|stream|login|monitoring|dev/|component|/run|vibe", path)
    }
    assert len(dangerous) > 20
    assert {path for path in dangerous if allowed.fullmatch(path)} == set()


def test_heartbeat_route_contains_session_hash(routes: set[str]) -> None:
    assert {session_of_heartbeat(path) for path in routes} == {None, "x"}


def test_prepare_page_changes_the_installed_template(frontend: Path) -> None:
    template = (frontend / "index.html").read_text("utf-8")
    assert re.search("og:image|twitter:", template)
    page = prepare_page(template, "fr", "<script>first</script>")
    assert re.search(r'<html\s+lang="fr"', page)
    assert page.index("<script>first</script>") < page.replace("<script>first", "", 1).index(
        "<script"
    )
    assert not re.search("og:|twitter:", page)


def test_gradio_has_the_flag_that_refuses_file_paths(blocks: Any) -> None:
    assert blocks.has_launched is False
    refuse_file_paths(blocks)
    assert blocks.has_launched is True


def test_gradio_has_the_pause_of_its_queue(blocks: Any) -> None:
    assert 0 < blocks._queue.sleep_when_free < QUEUE_SECONDS
    poll_queue_less_often(blocks)
    assert blocks._queue.sleep_when_free == QUEUE_SECONDS


def test_gradio_keeps_the_state_of_no_more_pages(blocks: Any) -> None:
    import gradio as gr
    from fastapi import FastAPI

    assert blocks.state_session_capacity > MAX_PAGES
    keep_fewer_pages(blocks)
    gr.mount_gradio_app(FastAPI(), blocks, path="/en", ssr_mode=False)
    for number in range(MAX_PAGES + 10):
        assert blocks.state_holder[f"page-{number}"] is not None
    assert len(blocks.state_holder.session_data) == MAX_PAGES
    assert "page-0" not in blocks.state_holder


def test_names_of_the_page_exist_in_gradio(frontend: Path) -> None:
    files = [*frontend.rglob("*.css"), *frontend.rglob("*.js")]
    code = "\n".join(file.read_text("utf-8", errors="ignore") for file in files)
    missing = {
        name for name in (*CSS_NAMES, *TEST_IDS) if not re.search(rf"\b{re.escape(name)}\b", code)
    }
    assert missing == set()


def test_style_sheet_and_script_use_only_listed_names() -> None:
    script = (FOLDER / "web" / "page.js").read_text("utf-8")
    assert set(re.findall(r"data-testid='([^']+)'", script)) == set(TEST_IDS)
    style = (FOLDER / "web" / "style.css").read_text("utf-8")
    selectors = re.sub(r"/\*.*?\*/|\{[^{}]*\}", " ", style, flags=re.DOTALL)
    used = set(re.findall(r"\.([a-z][a-z-]*)", selectors)) | {"info-text"}
    code = "\n".join(file.read_text("utf-8") for file in FOLDER.rglob("*.py"))
    own = {name for name in used if re.search(rf"""["' ]{name}["' >]""", code + script)}
    assert used - own - set(CSS_NAMES) - {"dark", "over", "bad"} == set()


def test_media_rules_name_nothing_outside_the_tabs() -> None:
    """Gradio puts its container before each of them, so that others would never apply."""
    style = (FOLDER / "web" / "style.css").read_text("utf-8")
    rules = re.findall(r"^@media[^{]*\{\n(.*?)^\}", style, re.DOTALL | re.MULTILINE)
    assert len(rules) >= 3
    for selectors in re.findall(r"^  ([^{/]+)\{", "\n".join(rules), re.MULTILINE):
        for selector in selectors.split(","):
            assert not selector.strip().startswith((".gradio-container", ".main")), selector


def test_no_other_module_uses_undocumented_parts() -> None:
    violations: list[str] = []
    for file in FOLDER.rglob("*.py"):
        if file == Path(gradio_internals.__file__):
            continue
        for node in ast.walk(syntax_tree(file)):
            if isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                if node.attr.startswith("_") and not node.attr.startswith("__"):
                    if owner not in ("self", "cls"):
                        violations.append(f"{file.name}:{node.lineno} {node.attr}")
                elif node.attr == "has_launched":
                    violations.append(f"{file.name}:{node.lineno} {node.attr}")
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradio."):
                violations.append(f"{file.name}:{node.lineno} {node.module}")
            elif isinstance(node, ast.Constant) and node.value == "__type__":
                violations.append(f"{file.name}:{node.lineno} __type__")
    assert violations == []
