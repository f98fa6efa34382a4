"""The ASGI application: one page for each language, behind one access control."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

from gradio_ui.api_client import ApiClient
from gradio_ui.tabs.base import Context
from gradio_ui.texts import LANGUAGES, Texts, preferred_language
from gradio_ui.theme import theme
from gradio_ui.visitor_state import COOKIE, SessionCodes, Visits
from gradio_ui.web.access_control import AccessControl
from gradio_ui.web.gradio_internals import (
    keep_fewer_pages,
    poll_queue_less_often,
    refuse_file_paths,
)
from gradio_ui.web.page import Page
from gradio_ui.web.page_middleware import BehindProxy, PageMiddleware
from student_success.core.configuration.settings import Settings

FOLDER = Path(__file__).parent


class KeptForm(BaseModel):
    """What stands in the form of a page that ends."""

    code: str = Field(min_length=16, max_length=64)
    form: dict[str, str] = Field(max_length=300)


def create_app(settings: Settings) -> ASGIApp:
    """Return the ASGI application; it sends nothing to the API before a visitor comes."""
    token = settings.api_token.get_secret_value() if settings.api_token else None
    api, visits = ApiClient(settings.api_url, token=token), Visits(SessionCodes(token))
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/")
    def home(request: HttpRequest) -> RedirectResponse:
        language = preferred_language(request.headers.get("accept-language", ""))
        return RedirectResponse(
            f"{settings.root_path or '.'}/{language}/", headers={"Vary": "Accept-Language"}
        )

    @app.get("/livez")
    def alive() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response((FOLDER / "icon.svg").read_bytes(), media_type="image/svg+xml")

    @app.post("/{language}/keep", status_code=204)
    def keep(language: str, kept: KeptForm, request: HttpRequest) -> None:
        del language
        visits.keep_form(request.cookies.get(COOKIE, ""), kept.code, kept.form)

    for language in LANGUAGES:
        _mount(app, Context(Texts(language), api, visits, settings))
    upload_bytes = settings.ui_max_upload_mb << 20
    return BehindProxy(
        AccessControl(
            PageMiddleware(app, settings.root_path),
            visits=visits,
            upload_bytes=upload_bytes,
            allows_host=partial(settings.allows_host, address=settings.ui_address),
            root_path=settings.root_path,
        ),
        settings.strip_root,
    )


def _mount(app: FastAPI, context: Context) -> None:
    blocks = Page(context).blocks
    keep_fewer_pages(blocks)
    gr.mount_gradio_app(
        app,
        blocks,
        path=f"/{context.texts.language}",
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
        css=(FOLDER / "style.css").read_text("utf-8"),
    )
    refuse_file_paths(blocks)
    poll_queue_less_often(blocks)
