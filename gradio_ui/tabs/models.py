"""The tab of the person who runs the models; it requires the admin token."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.html import models as html
from gradio_ui.html.labels import version_name
from gradio_ui.html.markup import note
from gradio_ui.tabs.base import Tab, Updates, report_errors
from gradio_ui.tabs.models_layout import MAX_REASON_CHARACTERS, ModelsLayout
from gradio_ui.visitor_state import Visit

_GATE_TIMEOUT_SECONDS = 300.0
_REGISTRY_TIMEOUT_SECONDS = 60.0
_TRAINING_START_TIMEOUT_SECONDS = 30.0


class LockedError(Exception):
    """The visit has no admin token."""


class ModelsTab(Tab):
    """Train, show evidence, promote, roll back."""

    def build(self) -> None:
        """Create the components and bind their events."""
        self.add_lead("models.lead")
        self.add_notice()
        layout = self.layout = ModelsLayout(self.texts, self.settings)
        self.outputs = [self.notice, *layout.outputs]
        unlocked = gr.on(
            [layout.unlock.click, layout.token.submit],
            self.unlock,
            inputs=[layout.token],
            outputs=[*self.outputs, layout.token],
            api_name="unlock",
            show_progress="hidden",
        )
        self._list_versions_after(unlocked)
        self._list_versions_after(self.bind(layout.refresh.click, self.refresh, name="models"))
        self.bind(layout.lock.click, self.lock, name="lock")
        self.bind(layout.train.click, self.train, [layout.budget, layout.family], name="train")
        self._list_versions_after(self.bind(layout.timer.tick, self.follow_training))
        chosen = self.bind(
            layout.version.change, self.announce_evidence, [layout.version], [layout.evidence]
        )
        self.bind(chosen.then, self.show_evidence, [layout.version], name="judge")
        request = [layout.version, layout.reason, *layout.exceptions]
        self._bind_slow(layout.promote, self.promote, request, "promote")
        self._bind_slow(layout.roll_back, self.roll_back, [layout.reason], "rollback")

    def _bind_slow(self, button: Any, callback: Any, inputs: list[Any], name: str) -> None:
        """Bind a button whose answer takes seconds; until then it cannot be pressed again."""
        label, working = button.value, self.texts("models.working")
        disabled = self.bind(
            button.click, lambda: gr.update(interactive=False, value=working), (), [button]
        )
        done = self.bind(disabled.then, callback, inputs, name=name)
        self.bind(done.then, lambda: gr.update(interactive=True, value=label), (), [button])
        self._list_versions_after(done)

    def _list_versions_after(self, event: Any) -> None:
        """Read the registry after an event that may have changed it."""
        outputs = [self.notice, self.layout.versions, self.layout.version]
        self.bind(event.then, self.list_versions, outputs=outputs)

    def bind_selection(self, event: Any) -> None:
        """Read everything again when the reader turns to this tab."""
        self._list_versions_after(self.bind(event, self.refresh))

    def restore(self, request: gr.Request) -> Updates:
        """Show the tab again in this language."""
        return self.refresh(request)

    @report_errors
    def unlock(self, request: gr.Request, token: str) -> Updates:
        """Keep a token if the API accepts it; the field is cleared in either case."""
        visit = self.visits.of(request)
        visit.admin_token = None
        token, cleared = token.strip(), {self.layout.token: ""}
        if not token.isascii() or not token.isprintable() or not token:
            return cleared | self.failure("models.refused")
        try:
            self.api.call("GET", "/deployments", token=token)
        except ApiError as error:
            if error.status in (401, 403):
                return cleared | self.failure("models.refused")
            return cleared | {self.notice: self.describe_error(error)}
        visit.admin_token = token
        return cleared | self._unlocked(visit, token)

    @report_errors
    def lock(self, request: gr.Request) -> Updates:
        """Forget the token."""
        self.visits.of(request).admin_token = None
        return self._locked()

    @report_errors
    def refresh(self, request: gr.Request) -> Updates:
        """Show the served version, the training and the log."""
        visit = self.visits.of(request)
        token = visit.admin_token
        return self._locked() if token is None else self._unlocked(visit, token)

    @report_errors
    def list_versions(self, request: gr.Request) -> Updates:
        """Read the registry, unless nothing has changed since it was read."""
        visit = self.visits.of(request)
        if visit.admin_token is None or not visit.versions_outdated:
            return {self.notice: gr.skip()}
        visit.versions_outdated = False
        versions = self.api.call(
            "GET", "/versions", token=visit.admin_token, timeout=_REGISTRY_TIMEOUT_SECONDS
        )
        model = self.api.call("GET", "/model")
        visit.versions = tuple(versions)
        return {
            self.notice: gr.skip(),
            self.layout.versions: html.version_table(self.texts, versions, model),
            self.layout.version: gr.update(choices=html.version_choices(self.texts, versions)),
        }

    @report_errors
    def train(self, request: gr.Request, budget: str, family: str | None) -> Updates:
        """Start a training and follow it."""
        visit, token = self._admin(request)
        body: dict[str, Any] = {"wait": False}
        if budget.strip():
            try:
                body["budget_seconds"] = float(budget.replace(",", "."))
            except ValueError:
                return self.failure("models.bad_budget")
        if family:
            body["family"] = family
        answer = self.api.call(
            "POST", "/train", body=body, token=token, timeout=_TRAINING_START_TIMEOUT_SECONDS
        )
        visit.job_id = str(answer["job_id"])
        return self._training(visit, token)

    @report_errors
    def follow_training(self, request: gr.Request) -> Updates:
        """Show the progress of the training; at its end, show everything again."""
        visit = self.visits.of(request)
        token = visit.admin_token
        stopped: Updates = {self.layout.timer: gr.Timer(active=False)}
        if token is None or visit.job_id is None:
            return stopped
        try:
            updates = self._training(visit, token)
        except ApiError as error:
            message: Updates = {self.notice: self.describe_error(error)}
            # The training continues without us, so a transient error does not end the following.
            if error.is_transient:
                return message
            visit.job_id = None
            return stopped | message
        updates[self.notice] = gr.skip()
        return updates if visit.job_id else self._unlocked(visit, token) | updates

    def announce_evidence(self, version: str | None) -> str:
        """State that the evidence is being read."""
        return note("info", self.texts("gate.looking")) if version else ""

    @report_errors
    def show_evidence(self, request: gr.Request, version: str | None) -> Updates:
        """Show the conditions of the gate for a version, without promoting it."""
        visit, token = self._admin(request)
        number, shown = html.version_number(version), ""
        if number is not None:
            try:
                evidence = self.api.call(
                    "GET",
                    "/evidence",
                    token=token,
                    params={"version": number},
                    timeout=_GATE_TIMEOUT_SECONDS,
                )
                shown = html.synthetic_warning(self.texts, visit.versions, number)
                shown += html.gate_conditions(self.texts, number, evidence)
            except ApiError as error:
                shown = self.describe_error(error)
        # This may come after the answer of a promotion, whose message stays.
        return {self.notice: gr.skip(), self.layout.evidence: shown}

    @report_errors
    def promote(
        self, request: gr.Request, version: str | None, reason: str, *exceptions: Any
    ) -> Updates:
        """Ask for a promotion; after a refusal, show every condition."""
        visit, token = self._admin(request)
        number = html.version_number(version)
        if number is None:
            return self.failure("models.no_version")
        if not reason.strip():
            return self.failure("models.no_reason")
        body = {"version": number, "reason": _shortened(reason)}
        body |= self.layout.accepted(*exceptions)
        try:
            answer = self.api.call(
                "POST", "/promote", body=body, token=token, timeout=_GATE_TIMEOUT_SECONDS
            )
        except ApiError as error:
            if error.code != "promotion_refused":
                raise
            verdict = {"passed": False, "conditions": error.details}
            updates = self.failure("models.gate_refused", version=number)
        else:
            verdict = {"passed": True, **answer["evidence"]}
            updates = self._unlocked(visit, token) | self.success("models.promoted", version=number)
        return {**updates, self.layout.evidence: html.gate_conditions(self.texts, number, verdict)}

    @report_errors
    def roll_back(self, request: gr.Request, reason: str) -> Updates:
        """Return to the version served before."""
        visit, token = self._admin(request)
        if not reason.strip():
            return self.failure("models.no_reason")
        answer = self.api.call(
            "POST",
            "/rollback",
            body={"reason": _shortened(reason)},
            token=token,
            timeout=_REGISTRY_TIMEOUT_SECONDS,
        )
        name = version_name(self.texts, str(answer["version"]))
        key = "models.rolled_back_leaky" if answer.get("warnings") else "models.rolled_back"
        done = self.success(key, version=name)
        return self._unlocked(visit, token) | done | {self.layout.evidence: ""}

    def describe_error(self, error: Exception) -> str:
        """Return a message for the reader; a missing token is not an unexpected error."""
        if isinstance(error, LockedError):
            return note("bad", self.texts("models.locked"))
        return super().describe_error(error)

    def _admin(self, request: gr.Request) -> tuple[Visit, str]:
        visit = self.visits.of(request)
        token = visit.admin_token
        if token is None:
            raise LockedError
        return visit, token

    def _locked(self) -> Updates:
        layout = self.layout
        return {
            layout.locked: gr.update(visible=True),
            layout.unlocked: gr.update(visible=False),
            layout.timer: gr.Timer(active=False),
            layout.versions: html.versions_loading(self.texts),
            **dict.fromkeys((layout.served, layout.evidence, layout.job, layout.log), ""),
        }

    def _unlocked(self, visit: Visit, token: str) -> Updates:
        """Read what the API answers quickly; `list_versions` reads the slower registry later."""
        layout = self.layout
        deployments = self.api.call("GET", "/deployments", token=token)
        model = self.api.call("GET", "/model")
        visit.job_id = visit.job_id or self._running_job(token)
        visit.versions_outdated = True
        return {
            layout.locked: gr.update(visible=False),
            layout.unlocked: gr.update(visible=True),
            layout.served: html.served_model(self.texts, model),
            layout.log: html.deployment_log(self.texts, deployments),
            layout.timer: gr.Timer(active=visit.job_id is not None),
        }

    def _running_job(self, token: str) -> str | None:
        """Return the training under way, whoever started it."""
        try:
            newest = self.api.call("GET", "/train", token=token)
        except ApiError:
            return None
        return str(newest["job_id"]) if newest["state"] == "running" else None

    def _training(self, visit: Visit, token: str) -> Updates:
        job = self.api.call("GET", "/train", token=token, params={"job_id": visit.job_id or ""})
        is_running = job["state"] == "running"
        if not is_running:
            visit.job_id = None
        updates: Updates = {
            self.layout.job: html.training_job(self.texts, job),
            self.layout.timer: gr.Timer(active=is_running),
        }
        if job["state"] == "done":
            # The new version is chosen, so that its conditions are read without a further step.
            choices = html.version_choices(self.texts, [job["result"]])
            updates[self.layout.version] = gr.update(choices=choices, value=choices[0][1])
            updates[self.layout.versions] = html.versions_loading(self.texts)
        return updates


def _shortened(reason: str) -> str:
    return reason.strip()[:MAX_REASON_CHARACTERS]
