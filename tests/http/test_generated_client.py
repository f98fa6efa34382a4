"""Classes that a generator makes from the OpenAPI document fit the requests and the answers."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from datetime import datetime
from types import ModuleType
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from student_success.domain.students import EXAMPLE


@pytest.fixture(scope="module")
def generated(http: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(http.get("/openapi.json").content)
    subprocess.run(
        [
            *(sys.executable, "-m", "datamodel_code_generator", "--input=openapi.json"),
            *("--input-file-type=openapi", "--output=answers.py", "--use-annotated"),
            *("--output-model-type=pydantic_v2.BaseModel", "--target-python-version=3.11"),
            *("--extra-fields=forbid", "--disable-timestamp"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=120,
    )
    path = folder / "answers.py"
    spec = importlib.util.spec_from_file_location("answers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read(generated: ModuleType, name: str, response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    model: type[BaseModel] = getattr(generated, name)
    return model.model_validate_json(response.content)


def test_generated_classes_predict_and_read_the_answer(
    http: httpx.Client, generated: ModuleType
) -> None:
    pupil = generated.StudentFeatures(**EXAMPLE)
    body = pupil.model_dump_json(exclude_unset=True, by_alias=True)
    json_type = {"Content-Type": "application/json"}
    answer = read(
        generated, "PredictionAnswer", http.post("/predict", content=body, headers=json_type)
    )
    assert isinstance(answer.timestamp, datetime)
    assert answer.decision.value in {"reussite", "echec"}
    explained = http.post("/explain", content=body, headers=json_type)
    assert read(generated, "ExplainAnswer", explained).contributions[0].feature in EXAMPLE
    rows = http.get("/history", params={"session_id": answer.session_id}).json()
    assert generated.HistoryRow(**rows[0]).prediction_id == answer.prediction_id


def test_generated_classes_read_what_is_known_of_the_service(
    http: httpx.Client, admin: httpx.Client, generated: ModuleType
) -> None:
    assert read(generated, "HealthAnswer", http.get("/health")).model_loaded
    assert "G1" in read(generated, "ModelAnswer", http.get("/model")).expected_features
    read(generated, "DriftAnswer", http.get("/drift"))
    outcome = {"session_id": "nobody", "reference": "P-1", "actual_G3": 12}
    recorded = admin.post("/outcomes", json={"outcomes": [outcome]})
    assert read(generated, "OutcomesAnswer", recorded).rejected[0].error.value == "not_found"


def test_generated_classes_read_every_error(
    http: httpx.Client, admin: httpx.Client, generated: ModuleType
) -> None:
    refused = read(generated, "ErrorAnswer", http.get("/evidence", params={"version": 1}), 401)
    assert refused.error == "unauthenticated"
    invalid = read(generated, "ErrorAnswer", http.post("/predict", json={"age": "x"}), 422)
    assert all(detail.msg and detail.loc and detail.type for detail in invalid.details)
    nothing = admin.get("/train", params={"job_id": "0" * 32})
    assert read(generated, "ErrorAnswer", nothing, 404).error == "not_found"


def test_every_field_and_parameter_is_described(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, part in schema.get("properties", {}).items()
        if not part.get("description")
    ]
    bare += [
        f"{path} {parameter['name']}"
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for parameter in operation["parameters"]
        if not (parameter.get("description") or parameter["schema"].get("description"))
    ]
    assert bare == []


@pytest.mark.parametrize("name", ["conditions", "comparisons"])
def test_verdicts_of_the_gate_are_typed(http: httpx.Client, name: str) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    items = schemas["EvidenceAnswer"]["properties"][name]["items"]
    typed = schemas[items["$ref"].rsplit("/", 1)[1]]["properties"]
    assert set(typed) >= ({"value", "limit", "compared"} if name == "conditions" else {"skill"})
