"""The tab of the person who runs the models; nothing of it works without the admin token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from gradio_ui import models_view as view
from gradio_ui.client import ApiError
from gradio_ui.markup import note
from gradio_ui.room import House, Room, Updates, told
from gradio_ui.visits import Visit

_PROMOTE_SECONDS = 300.0
_REASON = 1000


class LockedError(Exception):
    """The admin token is missing, or was not accepted."""


class ModelsRoom(Room):
    """Train, judge, promote, roll back."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.token: Any = None
        self.gate: Any = None
        self.inside: Any = None
        self.table: Any = None
        self.version: Any = None
        self.evidence: Any = None
        self.job: Any = None
        self.timer: Any = None
        self.log: Any = None

    def build(self) -> None:
        """Lay out the tab and tie it together."""
        words = self.words
        gr.HTML(f"<p class='lead'>{words('models.lead')}</p>")
        self.build_notice()
        with gr.Column(elem_classes=["group", "gate"]) as self.gate:
            self.token = gr.Textbox(
                label=words("models.token"),
                info=words("models.token_help"),
                type="password",
                max_length=512,
                elem_id="token",
                html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
            )
            unlock = gr.Button(words("models.unlock"), variant="primary", elem_id="unlock")
        with gr.Column(visible=False, elem_id="models-inside") as self.inside:
            with gr.Row(elem_classes=["actions"]):
                refresh = gr.Button(words("history.refresh"), size="sm", elem_id="models-refresh")
                lock = gr.Button(words("models.lock"), size="sm", elem_id="lock")
            self.table = gr.HTML("", elem_id="versions")
            self._build_training()
            self._build_promotion()
            self.log = gr.HTML("", elem_id="log")
        self.timer = gr.Timer(1.0, active=False)
        unlock.click(
            self.unlock,
            inputs=[self.token],
            outputs=[*self.outputs, self.token],
            api_name="unlock",
            show_progress="hidden",
        )
        self.token.submit(
            self.unlock,
            inputs=[self.token],
            outputs=[*self.outputs, self.token],
            api_visibility="private",
            show_progress="hidden",
        )
        quiet: dict[str, Any] = {"outputs": self.outputs, "show_progress": "hidden"}
        refresh.click(self.look, api_name="models", **quiet)
        lock.click(self.lock, api_name="lock", **quiet)
        self._tie(quiet)

    @property
    def outputs(self) -> list[Any]:
        """Every component that this tab may change."""
        return [
            self.notice,
            self.gate,
            self.inside,
            self.table,
            self.version,
            self.evidence,
            self.job,
            self.timer,
            self.log,
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
            return {self.token: "", self.notice: note("bad", self.words("models.refused"))}
        try:
            self.api.call("GET", "/deployments", token=offered)
        except ApiError as error:
            refused = error.status in (401, 403)
            said = note("bad", self.words("models.refused")) if refused else self.failed(error)
            return {self.token: "", self.notice: said}
        visit.admin = offered
        return self._all(visit) | {self.token: ""}

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
    def train(self, request: gr.Request, budget: str) -> Updates:
        """Start a training and follow it."""
        visit, token = self._admin(request)
        body: dict[str, Any] = {"wait": False}
        if budget.strip():
            try:
                body["budget_seconds"] = float(budget.replace(",", "."))
            except ValueError:
                return {self.notice: note("bad", self.words("models.bad_budget"))}
        answer = self.api.call("POST", "/train", body=body, token=token, timeout=30.0)
        visit.job_id = str(answer["job_id"])
        return self._job(visit, token)

    @told
    def follow(self, request: gr.Request) -> Updates:
        """Look how the training goes; once it is over, show what came of it."""
        visit = self.visits.of(request)
        if visit.admin is None or visit.job_id is None:
            return {self.timer: gr.Timer(active=False)}
        try:
            updates = self._job(visit, visit.admin)
        except ApiError as error:
            # The next look may well succeed: the training goes on without us.
            if error.passing:
                return {self.notice: self.failed(error)}
            visit.job_id = None
            return {self.timer: gr.Timer(active=False), self.notice: self.failed(error)}
        if visit.job_id is None:
            updates = self._all(visit) | updates
        return updates

    @told
    def judge(self, request: gr.Request, version: str | None) -> Updates:
        """Show what the gate would say of a version."""
        _, token = self._admin(request)
        number = view.number_of(version)
        if number is None or not self.api.offers("GET", "/evidence"):
            return {self.evidence: ""}
        found = self.api.call(
            "GET", "/evidence", token=token, params={"version": number}, timeout=60.0
        )
        return {self.evidence: view.conditions(self.words, number, found)}

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
        body: dict[str, Any] = {"version": number, "reason": reason.strip()[:_REASON]}
        if override.strip():
            body["fairness_override"] = override.strip()[:_REASON]
        try:
            answer = self.api.call(
                "POST", "/promote", body=body, token=token, timeout=_PROMOTE_SECONDS
            )
        except ApiError as error:
            if error.code != "promotion_refused":
                raise
            refused = {"passed": False, "conditions": error.details}
            return {
                self.notice: note("bad", words("models.gate_refused", version=number)),
                self.evidence: view.conditions(words, number, refused),
            }
        said = note("good", words("models.promoted", version=number))
        evidence = {"passed": True, **answer["evidence"]}
        return self._all(visit) | {
            self.notice: said,
            self.evidence: view.conditions(words, number, evidence),
        }

    @told
    def roll_back(self, request: gr.Request, reason: str) -> Updates:
        """Go back to the version served before."""
        visit, token = self._admin(request)
        if not reason.strip():
            return {self.notice: note("bad", self.words("models.no_reason"))}
        answer = self.api.call(
            "POST", "/rollback", body={"reason": reason.strip()[:_REASON]}, token=token,
            timeout=60.0,
        )  # fmt: skip
        name = view.version_name(self.words, str(answer["version"]))
        said = note("good", self.words("models.rolled_back", version=name))
        return self._all(visit) | {self.notice: said, self.evidence: ""}

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
            self.gate: gr.update(visible=True),
            self.inside: gr.update(visible=False),
            self.timer: gr.Timer(active=False),
            **dict.fromkeys((self.table, self.evidence, self.job, self.log), ""),
        }

    def _all(self, visit: Visit) -> Updates:
        """Read everything anew; whoever calls this has checked that there is a token."""
        token = visit.admin
        api, words = self.api, self.words
        log = api.call("GET", "/deployments", token=token)
        model = api.call("GET", "/model")
        versions = None
        if api.offers("GET", "/versions"):
            versions = api.call("GET", "/versions", token=token, timeout=30.0)
        if visit.job_id is None:
            visit.job_id = self._running(token)
        return {
            self.gate: gr.update(visible=False),
            self.inside: gr.update(visible=True),
            self.table: view.served(words, model) + view.versions(words, versions, model),
            self.version: gr.update(choices=view.choices(words, versions), value=None),
            self.log: view.log(words, log),
            self.timer: gr.Timer(active=visit.job_id is not None),
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
            self.job: view.job(self.words, job),
            self.timer: gr.Timer(active=running),
            self.notice: "",
        }

    def _build_training(self) -> None:
        words = self.words
        with gr.Column(elem_classes=["group"]):
            gr.HTML(f"<h2>{words('models.training')}</h2><p>{words('models.training_help')}</p>")
            with gr.Row(elem_classes=["fields"]):
                self._budget = gr.Textbox(
                    label=words("models.budget"), info=words("models.budget_help"), max_length=8,
                    elem_id="budget",
                )  # fmt: skip
            self._train = gr.Button(words("models.train"), elem_id="train")
            self.job = gr.HTML("", elem_id="job")

    def _build_promotion(self) -> None:
        words = self.words
        with gr.Column(elem_classes=["group"]):
            gr.HTML(f"<h2>{words('models.promotion')}</h2><p>{words('models.promotion_help')}</p>")
            with gr.Row(elem_classes=["fields"]):
                self.version = gr.Dropdown(
                    [], label=words("models.which"), allow_custom_value=True, elem_id="version"
                )
                self._reason = gr.Textbox(
                    label=words("models.reason"), max_length=_REASON, elem_id="reason"
                )
            self._override = gr.Textbox(
                label=words("models.override"),
                info=words("models.override_help"),
                max_length=_REASON,
                elem_id="override",
            )
            with gr.Row(elem_classes=["actions"]):
                self._promote = gr.Button(
                    words("models.promote"), variant="primary", elem_id="promote"
                )
                self._back = gr.Button(
                    words("models.roll_back"), variant="stop", elem_id="roll-back"
                )
            self.evidence = gr.HTML("", elem_id="evidence")

    def _tie(self, quiet: dict[str, Any]) -> None:
        self._train.click(self.train, inputs=[self._budget], api_name="train", **quiet)
        self.timer.tick(self.follow, api_visibility="private", **quiet)
        self.version.change(self.judge, inputs=[self.version], api_name="judge", **quiet)
        # A gate takes seconds: the button shows that it works, and cannot be pressed twice.
        spinning = quiet | {"show_progress": "minimal", "show_progress_on": [self.evidence]}
        self._promote.click(
            self.promote,
            inputs=[self.version, self._reason, self._override],
            api_name="promote",
            **spinning,
        )
        self._back.click(self.roll_back, inputs=[self._reason], api_name="rollback", **spinning)
