"""The description of the API: whole, valid, true, and from nowhere but here."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import jsonschema
import pytest
from jsonschema import Draft202012Validator

from student_success.api.endpoints import ENDPOINTS
from student_success.domain.students import EXAMPLE

METHODS = {"get", "post", "delete", "put", "patch"}


@pytest.fixture(scope="module")
def description(http: httpx.Client) -> dict[str, Any]:
    response = http.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[name] or "" for name in ("src", "href", "action") if name in found]
        self.inline += tag == "script" and "src" not in found
        assert not [name for name in found if name.startswith("on")]


def test_docs_page_loads_files_from_this_server_only(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    parser = _Links()
    parser.feed(page.text)
    assert parser.links
    assert not parser.inline, "the content security policy allows no script in the page"
    for link in (urljoin("/docs", link) for link in parser.links):
        assert re.match(r"/[^/]", link), f"{link} is not on this server"
        loaded = http.get(link)
        assert loaded.status_code == 200
        assert len(loaded.content) > 100
    assert http.get("/docs/start.js").headers["content-type"].startswith("text/javascript")


def test_openapi_contains_no_external_address(description: dict[str, Any]) -> None:
    assert "http" not in str({**description, "components": None}).replace("'http'", "")
    assert "servers" not in description


def test_openapi_is_valid(description: dict[str, Any]) -> None:
    import schemathesis

    assert description["openapi"].startswith("3.1")
    schema = schemathesis.openapi.from_dict(description)
    schema.validate()


def test_openapi_schemas_are_valid_and_all_references_resolve(
    description: dict[str, Any],
) -> None:
    schemas = description["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    named = set(re.findall(r"#/components/schemas/(\w+)", str(description)))
    assert named <= set(schemas)


def test_openapi_describes_exactly_the_routes_of_the_table(description: dict[str, Any]) -> None:
    described = {
        (method.upper(), path)
        for path, operations in description["paths"].items()
        for method in operations
    }
    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    ids = [op["operationId"] for ops in description["paths"].values() for op in ops.values()]
    assert len(set(ids)) == len(ids)
    for operations in description["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["responses"]


def test_openapi_operations_have_a_tag_and_an_id_that_is_an_identifier(
    description: dict[str, Any],
) -> None:
    """Generators of clients make a module of each tag and a function of each id."""
    tags = {tag["name"] for tag in description["tags"]}
    used = set()
    for operations in description["paths"].values():
        for operation in operations.values():
            assert operation["operationId"].isidentifier()
            (tag,) = operation["tags"]
            used.add(tag)
    assert used == tags == {"predictions", "history", "versions", "service"}


def test_openapi_describes_what_a_started_training_answers(description: dict[str, Any]) -> None:
    started = description["paths"]["/train"]["post"]["responses"]["202"]
    schema = started["content"]["application/json"]["schema"]
    resolved(description, schema).validate({"status": "accepted", "job_id": "0" * 32})


def test_openapi_times_are_of_the_format_date_time(description: dict[str, Any]) -> None:
    times = {"at", "created_at", "finished_at", "timestamp", "computed_at"}
    found = {
        name: part
        for schema in description["components"]["schemas"].values()
        for name, part in schema.get("properties", {}).items()
        if name in times
    }
    assert set(found) == times
    assert all("date-time" in str(part) for part in found.values())


def example_of(description: dict[str, Any], path: str) -> Any:
    content = description["paths"][path]["post"]["requestBody"]["content"]
    return content["application/json"]["example"]


@pytest.mark.parametrize("path", ["/predict", "/predict_batch"])
def test_openapi_examples_of_predictions_are_accepted(
    http: httpx.Client, description: dict[str, Any], path: str
) -> None:
    response = http.post(path, json=example_of(description, path))
    assert response.status_code == 200
    assert matches(description, path, "post", response)


@pytest.mark.parametrize("path", ["/promote", "/rollback"])
def test_openapi_examples_of_admin_routes_are_valid(description: dict[str, Any], path: str) -> None:
    body = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    resolved(description, body["schema"]).validate(body["example"])


def resolved(description: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": description["components"]})


def matches(description: dict[str, Any], path: str, method: str, response: httpx.Response) -> bool:
    """Check a response against what the description says of it."""
    said = description["paths"][path][method]["responses"][str(response.status_code)]
    resolved(description, said["content"]["application/json"]["schema"]).validate(response.json())
    return True


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "/health", None),
        ("post", "/health", None),
        ("get", "/model", None),
        ("get", "/history", None),
        ("post", "/history", {"limit": 5}),
        ("get", "/deployments", None),
        ("get", "/train", None),
        ("post", "/train", {"family": "?"}),
        ("post", "/promote", {}),
        ("post", "/rollback", {"reason": "r"}),
        ("delete", "/history", None),
        ("post", "/predict", {}),
        ("post", "/predict", EXAMPLE),
    ],
)
def test_responses_match_their_openapi_schemas(
    http: httpx.Client,
    admin: httpx.Client,
    description: dict[str, Any],
    method: str,
    path: str,
    body: Any,
) -> None:
    for client in (http, admin):
        assert matches(description, path, method, client.request(method, path, json=body))


def test_openapi_schema_of_a_pupil_is_as_strict_as_validation(description: dict[str, Any]) -> None:
    validator = resolved(description, {"$ref": "#/components/schemas/StudentFeatures"})
    validator.validate(EXAMPLE)
    for changed in ({"age": "17"}, {"age": 23}, {"school": "X"}, {"x": 1}, {"G1": 21}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**EXAMPLE, **changed})


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_root_redirects_to_our_own_page(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code == 307
    assert re.match(r"(/[^/]|http://127\.0\.0\.1|http://localhost)", response.headers["location"])
    assert "<script" not in response.text


def test_model_describes_features_dataset_and_card(http: httpx.Client) -> None:
    response = http.get("/model").json()
    assert response["model_loaded"] is True
    assert response["model_version"] == response["model_source"] == "seed"
    assert response["alias"] == "meilleur"
    assert response["model_name"] == "student_success_model"
    assert response["expected_features"] == list(EXAMPLE)
    assert set(response["features"]) == set(EXAMPLE)
    assert response["features"]["age"]["minimum"] == 15
    assert response["dataset"]["sha256"]
    assert response["model_card"]
    assert response["metrics"]


def test_health_returns_every_field_of_the_contract(http: httpx.Client) -> None:
    response = http.get("/health").json()
    assert response == http.post("/health").json() | {"uptime_seconds": response["uptime_seconds"]}
    uptime = response.pop("uptime_seconds")
    assert uptime > 0
    assert response == {
        "status": "ok",
        "db_ok": True,
        "model_loaded": True,
        "model_version": "seed",
        "model_source": "seed",
        "registry_ok": True,
        "problems": [],
        "synthetic_data": False,
        "workers_behind": 0,
    }


def test_admin_routes_return_defined_responses_on_a_fresh_server(admin: httpx.Client) -> None:
    assert admin.get("/deployments").json() == []
    newest = admin.get("/train")
    assert (newest.status_code, newest.json()["error"]) == (404, "not_found")
    missing = admin.get("/train", params={"job_id": "0" * 32})
    assert (missing.status_code, missing.json()["error"]) == (404, "not_found")
    with_session = admin.get(
        "/train", params={"job_id": "0" * 32}, headers={"X-Session-Id": "anything"}
    )
    assert with_session.status_code == 404
    malformed = admin.get("/train", params={"job_id": "../x"})
    assert (malformed.status_code, malformed.json()["error"]) == (422, "validation_error")
    nothing = admin.post("/rollback", json={"reason": "r"})
    assert (nothing.status_code, nothing.json()["error"]) == (409, "conflict")
