"""The tab of the person who runs the models; nothing of it works without the admin token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.html import models as view
from gradio_ui.html.markup import note
from gradio_ui.tabs.base import House, Room, Updates, told
from gradio_ui.tabs.models_layout import REASON, Layout
from gradio_ui.visitor_state import Visit

_GATE_SECONDS = 300.0


class LockedError(Exception):
    """The admin token is missing, or was not accepted."""


class ModelsRoom(Room):
    """Train, judge, promote, roll back."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.on: Any = None

    def build(self) -> None:
        """Lay out the tab and tie it together."""
        gr.HTML(f"<p class='lead'>{self.words('models.lead')}</p>")
        self.build_notice()
        on = self.on = Layout(self.words)
        quiet: dict[str, Any] = {"outputs": self.outputs, "show_progress": "hidden"}
        opened = gr.on(
            [on.unlock.click, on.token.submit],
            self.unlock,
            inputs=[on.token],
            outputs=[*self.outputs, on.token],
            api_name="unlock",
            show_progress="hidden",
        )
        self.then_list(opened)
        self.then_list(on.refresh.click(self.look, api_name="models", **quiet))
        on.lock.click(self.lock, api_name="lock", **quiet)
        on.train.click(self.train, inputs=[on.budget, on.family], api_name="train", **quiet)
        self.then_list(on.timer.tick(self.follow, api_visibility="private", **quiet))
        self._tie_judging(quiet)
        self._ask(on.promote, self.promote, [on.version, on.reason, on.override], "promote")
        self._ask(on.back, self.roll_back, [on.reason], "rollback")

    def then_list(self, event: Any) -> None:
        """Read the registry after an event that may have changed it."""
        event.then(
            self.list_versions,
            outputs=[self.notice, self.on.versions, self.on.version],
            api_visibility="private",
            show_progress="hidden",
        )

    @property
    def outputs(self) -> list[Any]:
        """Every component that this tab may change."""
        return [
            self.notice,
            self.on.gate,
            self.on.inside,
            self.on.table,
            self.on.versions,
            self.on.version,
            self.on.evidence,
            self.on.job,
            self.on.timer,
            self.on.log,
        ]

    def arrive(self, request: gr.Request) -> Updates:
        """Show the tab again in this language."""
        return self.look(request)

    @told
    def unlock(self, request: gr.Request, token: str) -> Updates:
        """Take a token, if the API accepts it; the field is emptied either way."""
        visit = self.visits.of(request)
        visit.admin = None
        offered = token.strip()
        if not offered.isascii() or not offered.isprintable() or not offered:
            return {self.on.token: "", self.notice: note("bad", self.words("models.refused"))}
        try:
            self.api.call("GET", "/deployments", token=offered)
        except ApiError as error:
            refused = error.status in (401, 403)
            said = note("bad", self.words("models.refused")) if refused else self.failed(error)
            return {self.on.token: "", self.notice: said}
        visit.admin = offered
        return self._all(visit) | {self.on.token: ""}

    @told
    def lock(self, request: gr.Request) -> Updates:
        """Forget the token."""
        visit = self.visits.of(request)
        visit.admin = None
        return self._shut()

    @told
    def look(self, request: gr.Request) -> Updates:
        """Show versions, training and log."""
        visit = self.visits.of(request)
        return self._all(visit) if visit.admin is not None else self._shut()

    @told
    def list_versions(self, request: gr.Request) -> Updates:
        """Read the registry, where it was not read since something changed."""
        visit = self.visits.of(request)
        if visit.admin is None or not visit.stale:
            return {self.notice: gr.skip()}
        visit.stale = False
        versions = None
        if self.api.offers("GET", "/versions"):
            versions = self.api.call("GET", "/versions", token=visit.admin, timeout=60.0)
        model = self.api.call("GET", "/model")
        return {
            self.notice: gr.skip(),
            self.on.versions: view.versions(self.words, versions, model),
            self.on.version: gr.update(choices=view.choices(self.words, versions)),
        }

    @told
    def train(self, request: gr.Request, budget: str, family: str) -> Updates:
        """Start a training and follow it."""
        visit, token = self._admin(request)
        body: dict[str, Any] = {"wait": False}
        if budget.strip():
            try:
                body["budget_seconds"] = float(budget.replace(",", "."))
            except ValueError:
                return {self.notice: note("bad", self.words("models.bad_budget"))}
        if family.strip():
            body["family"] = family.strip()
        answer = self.api.call("POST", "/train", body=body, token=token, timeout=30.0)
        visit.job_id = str(answer["job_id"])
        return self._job(visit, token)

    @told
    def follow(self, request: gr.Request) -> Updates:
        """Look how the training goes; once it is over, show what came of it."""
        visit = self.visits.of(request)
        if visit.admin is None or visit.job_id is None:
            return {self.on.timer: gr.Timer(active=False)}
        try:
            updates = self._job(visit, visit.admin)
        except ApiError as error:
            # The next look may well succeed: the training goes on without us.
            if error.passing:
                return {self.notice: self.failed(error)}
            visit.job_id = None
            return {self.on.timer: gr.Timer(active=False), self.notice: self.failed(error)}
        if visit.job_id is None:
            updates = self._all(visit) | updates
        return updates

    @told
    def judge(self, request: gr.Request, version: str | None) -> Updates:
        """Show what the gate would say of a version."""
        _, token = self._admin(request)
        number = view.number_of(version)
        if number is None or not self.api.offers("GET", "/evidence"):
            return {self.on.evidence: ""}
        try:
            found = self.api.call(
                "GET", "/evidence", token=token, params={"version": number}, timeout=_GATE_SECONDS
            )
        except ApiError as error:
            return {self.on.evidence: self.failed(error)}
        return {self.on.evidence: view.conditions(self.words, number, found)}

    @told
    def promote(
        self, request: gr.Request, version: str | None, reason: str, override: str
    ) -> Updates:
        """Ask for a promotion; a refusal shows every condition."""
        visit, token = self._admin(request)
        words = self.words
        number = view.number_of(version)
        if number is None:
            return {self.notice: note("bad", words("models.no_version"))}
        if not reason.strip():
            return {self.notice: note("bad", words("models.no_reason"))}
        body: dict[str, Any] = {"version": number, "reason": reason.strip()[:REASON]}
        if override.strip():
            body["fairness_override"] = override.strip()[:REASON]
        try:
            answer = self.api.call(
                "POST", "/promote", body=body, token=token, timeout=_GATE_SECONDS
            )
        except ApiError as error:
            if error.code != "promotion_refused":
                raise
            refused = {"passed": False, "conditions": error.details}
            return {
                self.notice: note("bad", words("models.gate_refused", version=number)),
                self.on.evidence: view.conditions(words, number, refused),
            }
        said = note("good", words("models.promoted", version=number))
        evidence = {"passed": True, **answer["evidence"]}
        return self._all(visit) | {
            self.notice: said,
            self.on.evidence: view.conditions(words, number, evidence),
        }

    @told
    def roll_back(self, request: gr.Request, reason: str) -> Updates:
        """Go back to the version served before."""
        visit, token = self._admin(request)
        if not reason.strip():
            return {self.notice: note("bad", self.words("models.no_reason"))}
        answer = self.api.call(
            "POST", "/rollback", body={"reason": reason.strip()[:REASON]}, token=token,
            timeout=60.0,
        )  # fmt: skip
        name = view.version_name(self.words, str(answer["version"]))
        said = note("good", self.words("models.rolled_back", version=name))
        return self._all(visit) | {self.notice: said, self.on.evidence: ""}

    def _admin(self, request: gr.Request) -> tuple[Visit, str]:
        visit = self.visits.of(request)
        token = visit.admin
        if token is None:
            raise LockedError
        return visit, token

    def failed(self, error: Exception) -> str:
        """Say what went wrong; a lost token is nobody's fault."""
        if isinstance(error, LockedError):
            return note("bad", self.words("models.locked"))
        return super().failed(error)

    def _shut(self) -> Updates:
        return {
            self.on.gate: gr.update(visible=True),
            self.on.inside: gr.update(visible=False),
            self.on.timer: gr.Timer(active=False),
            self.on.versions: view.reading(self.words),
            **dict.fromkeys((self.on.table, self.on.evidence, self.on.job, self.on.log), ""),
        }

    def _all(self, visit: Visit) -> Updates:
        """Read what the API knows at once; the registry takes seconds, and follows after."""
        token = visit.admin
        api, words = self.api, self.words
        log = api.call("GET", "/deployments", token=token)
        model = api.call("GET", "/model")
        if visit.job_id is None:
            visit.job_id = self._running(token)
        visit.stale = True
        return {
            self.on.gate: gr.update(visible=False),
            self.on.inside: gr.update(visible=True),
            self.on.table: view.served(words, model),
            self.on.log: view.log(words, log),
            self.on.timer: gr.Timer(active=visit.job_id is not None),
        }

    def _running(self, token: str | None) -> str | None:
        """Return the training under way, wherever it was started."""
        if not self.api.takes("GET", "/train", "job_id"):
            return None
        try:
            newest: Mapping[str, Any] = self.api.call("GET", "/train", token=token)
        except ApiError:
            return None
        return str(newest["job_id"]) if newest.get("state") == "running" else None

    def _job(self, visit: Visit, token: str) -> Updates:
        assert visit.job_id is not None
        job = self.api.call("GET", "/train", token=token, params={"job_id": visit.job_id})
        running = job["state"] == "running"
        if not running:
            visit.job_id = None
        return {
            self.on.job: view.job(self.words, job),
            self.on.timer: gr.Timer(active=running),
            self.notice: "",
        }

    def _tie_judging(self, quiet: dict[str, Any]) -> None:
        looking = note("info", self.words("gate.looking"))
        self.on.version.change(
            lambda version: looking if version else "",
            inputs=[self.on.version],
            outputs=[self.on.evidence],
            api_visibility="private",
            show_progress="hidden",
        ).then(self.judge, inputs=[self.on.version], api_name="judge", **quiet)

    def _ask(self, button: Any, callback: Any, inputs: list[Any], name: str) -> None:
        """Tie a button whose answer takes seconds: it cannot be pressed twice."""
        still: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        done = button.click(lambda: gr.update(interactive=False), outputs=[button], **still).then(
            callback,
            inputs=inputs,
            outputs=self.outputs,
            api_name=name,
            show_progress="minimal",
            show_progress_on=[self.on.evidence],
        )
        done.then(lambda: gr.update(interactive=True), outputs=[button], **still)
        self.then_list(done)
