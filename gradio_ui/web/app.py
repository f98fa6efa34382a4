"""The server: one page a language, chosen by the browser, behind one guard."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from gradio_ui.api_client import Api
from gradio_ui.tabs.base import House
from gradio_ui.texts import LANGUAGES, Words, preferred
from gradio_ui.theme import theme
from gradio_ui.visitor_state import Visits
from gradio_ui.web.access_control import Guard
from gradio_ui.web.document import App, Pages
from gradio_ui.web.page import Page
from student_success.core.settings import Settings

FOLDER = Path(__file__).parent
STYLE = FOLDER / "style.css"
ICON = FOLDER / "icon.svg"


def create(settings: Settings, *, api: Api | None = None) -> App:
    """Make the ASGI application; nothing is sent to the API before a visitor comes."""
    if api is None:
        token = settings.api_token
        api = Api(settings.api_url, token=token.get_secret_value() if token else None)
    visits = Visits()
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/")
    def home(request: HttpRequest) -> RedirectResponse:
        language = preferred(request.headers.get("accept-language", ""))
        return RedirectResponse(f"./{language}/", headers={"Vary": "Accept-Language"})

    @app.get("/livez")
    def alive() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(ICON.read_bytes(), media_type="image/svg+xml")

    for language in LANGUAGES:
        _mount(app, House(Words(language), api, visits, settings))
    limit = settings.ui_max_upload_mb << 20
    return Guard(Pages(app), visits=visits, upload_bytes=limit)


def _mount(app: FastAPI, house: House) -> None:
    blocks = Page(house).blocks
    gr.mount_gradio_app(
        app,
        blocks,
        path=f"/{house.words.language}",
        footer_links=[],
        run_history=False,
        show_error=False,
        allowed_paths=[],
        blocked_paths=["/"],
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=STYLE.read_text("utf-8"),
    )
    # Gradio (6.31) checks the paths it is given only in pages that were launched, not in mounted
    # ones. None of our callbacks takes a path; this makes Gradio refuse them before that.
    blocks.has_launched = True
