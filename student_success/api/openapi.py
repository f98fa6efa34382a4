"""The OpenAPI document, and a page that shows it without loading anything from third parties."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from student_success import __version__
from student_success.api.auth import Role
from student_success.api.endpoints import ENDPOINTS, STATIC_FILES, Endpoint
from student_success.api.field_descriptions import FIELDS
from student_success.domain.schemas.base import ErrorAnswer
from student_success.domain.schemas.lifecycle import TrainAccepted
from student_success.domain.students import GRADE_MAX, GRADE_MIN, PASS_GRADE, SCALE

_BETTER = "more" if SCALE.better == "higher" else "less"
_REF = "#/components/schemas/{model}"
_ALWAYS_POSSIBLE = (400, 421, 431, 500)
_MEANING = {
    400: "Not a valid HTTP request, or a header is repeated",
    401: "No token, or a wrong one",
    403: "A token of the wrong role",
    404: "Not found",
    408: "The request took too long to arrive",
    409: "In conflict with recorded data or with a running operation",
    413: "The body is too large",
    415: "The body is not JSON in UTF-8",
    421: "Addressed to a host that is not served",
    422: "The request does not match the contract",
    429: "Too many requests",
    431: "Too many headers",
    500: "An internal error",
    503: "Temporarily unavailable; see Retry-After",
}
_SESSION = {"session_id": "$response.body#/session_id"}
_LINKS: dict[tuple[str, str, str], dict[str, Any]] = {
    ("POST", "/predict", "200"): {
        "rows": {"operationId": "get_history", "parameters": _SESSION},
        "erasure": {"operationId": "delete_history", "parameters": _SESSION},
    },
    ("DELETE", "/history", "200"): {
        "remaining": {"operationId": "get_history", "parameters": _SESSION},
    },
    ("POST", "/train", "202"): {
        "progress": {
            "operationId": "get_train",
            "parameters": {"job_id": "$response.body#/job_id"},
        },
    },
    ("GET", "/versions", "200"): {
        "evidence": {
            "operationId": "get_evidence",
            "parameters": {"version": "$response.body#/0/version"},
        },
    },
}
"""OpenAPI links of a response: by method, path, status."""


_TAGS: dict[str, tuple[str, ...]] = {
    "predictions": ("/predict", "/predict_batch", "/explain"),
    "history": ("/history", "/outcomes"),
    "versions": (
        *("/train", "/promote", "/rollback", "/deployments", "/versions", "/evidence", "/model"),
        "/drift",
    ),
}
_OTHER_TAG = "service"


@cache
def description() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    models: set[type[BaseModel]] = {ErrorAnswer, TrainAccepted}
    for endpoint in ENDPOINTS:
        if endpoint.body is not None:
            models.add(endpoint.body)
        if endpoint.response is not None:
            models.add(_model(endpoint.response))
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=_REF,
    )
    for definition in definitions["$defs"].values():
        for name, field in definition.get("properties", {}).items():
            _describe(name, field)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Student success",
            "version": __version__,
            "description": f"Predicts a pupil's final grade ({GRADE_MIN:g} to {GRADE_MAX:g}), "
            f"whether the pupil passes ({PASS_GRADE:g} or {_BETTER}), and how certain that is.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in (*_TAGS, _OTHER_TAG)],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "ADMIN_TOKEN for administrators, API_TOKEN (where one is set) "
                    "for predictions.",
                }
            },
        },
    }


def _describe(name: str, field: dict[str, Any]) -> None:
    if "description" not in field and name in FIELDS:
        field["description"] = FIELDS[name]


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": f"{endpoint.method.lower()}_"
        + (endpoint.path.strip("/").replace(".", "_").replace("/", "_") or "root"),
        "tags": [next((t for t, paths in _TAGS.items() if endpoint.path in paths), _OTHER_TAG)],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.role is not Role.ANYONE:
        # An empty entry means that the token is optional, as it is while API_TOKEN is not set.
        optional = endpoint.role is Role.API and not endpoint.token_required
        operation["security"] = [{"token": []}] + ([{}] if optional else [])
    if endpoint.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": _REF.format(model=endpoint.body.__name__)}}
        examples = (endpoint.body.model_config.get("json_schema_extra") or {}).get("examples")  # type: ignore[union-attr]
        if examples:
            content["example"] = examples[0]  # type: ignore[index]
        operation["requestBody"] = {
            "required": not endpoint.body_optional,
            "content": {"application/json": content},
        }
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if endpoint.query is not None:
        schema = endpoint.query.model_json_schema()
        required = schema.get("required", [])
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": part}
            for name, part in schema["properties"].items()
        ]
    if endpoint.accepts_session:
        session = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}
        parameters.append({"name": "X-Session-Id", "in": "header", "schema": session})
        if endpoint.method == "POST":
            parameters.append({"name": "session_id", "in": "query", "schema": session})
            parameters.append(
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "The same key within a day, for the same session, gives the "
                    "same response and one row; with another body, 409. Choose it at random.",
                    "schema": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 255,
                        "pattern": "^[ -~]+$",
                    },
                }
            )
    for parameter in parameters:
        _describe(parameter["name"], parameter)
    return parameters


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    ok: dict[str, Any] = {"description": "Success"}
    if endpoint.response is not None:
        schema: dict[str, Any] = {"$ref": _REF.format(model=_model(endpoint.response).__name__)}
        if isinstance(endpoint.response, tuple):
            schema = {"type": "array", "items": schema}
        ok["content"] = {"application/json": {"schema": schema}}
    responses: dict[str, Any] = {"200": ok}
    if endpoint.path in ("/", "/ui"):
        responses = {"307": {"description": "Redirect"}}
    if (endpoint.method, endpoint.path) == ("POST", "/train"):
        schema = {"$ref": _REF.format(model=TrainAccepted.__name__)}
        responses["202"] = {
            "description": "Started, as `wait` is false; poll GET /train with the job_id",
            "content": {"application/json": {"schema": schema}},
        }
    codes = {*endpoint.errors, *_ALWAYS_POSSIBLE}
    if endpoint.role is not Role.ANYONE:
        codes |= {401, 403, 429}
    if endpoint.body is not None:
        codes |= {408, 413, 415, 422, 429}
    if endpoint.query is not None or endpoint.accepts_session:
        codes |= {422}
    envelope = {"application/json": {"schema": {"$ref": _REF.format(model="ErrorAnswer")}}}
    for code in sorted(codes):
        responses[str(code)] = {"description": _MEANING[code], "content": envelope}
    for status, response in responses.items():
        links = _LINKS.get((endpoint.method, endpoint.path, status))
        if links is not None:
            response["links"] = links
    return responses


def _model(response: type[BaseModel] | tuple[type[BaseModel]]) -> type[BaseModel]:
    return response[0] if isinstance(response, tuple) else response


# With relative addresses, so that the page works below any path of a proxy.
DOCS_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Student success: the API</title>
<link rel="stylesheet" href=".{STATIC_FILES}swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src=".{STATIC_FILES}swagger-ui-bundle.js"></script>
<script src="./docs/start.js"></script>
</body>
</html>
"""
DOCS_SCRIPT = """\
SwaggerUIBundle({
  url: "./openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
});
"""
