"""The Kubernetes manifests are valid, name what there is, and ask for no more than they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from student_success.api.endpoints import ENDPOINTS, STATIC_FILES
from student_success.cli.server_commands import GRACEFUL_SECONDS
from student_success.core.settings import ROOT, Settings

FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.27", "1.31", kubernetes_validate.latest_version())
INTERNAL = {"/metrics", "/livez", "/readyz"}
SECRETS = {"DATABASE_URL", "ADMIN_TOKEN", "API_TOKEN"}


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            yield path.name, document


def one(kind: str, name: str = "") -> dict[str, Any]:
    found = [
        document
        for _, document in documents()
        if document["kind"] == kind and name in ("", document.get("metadata", {}).get("name"))
    ]
    assert len(found) == 1, kind
    return found[0]


@pytest.fixture
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = one("Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_match_kubernetes_schema(version: str) -> None:
    seen = [document for _, document in documents() if document["kind"] != "Kustomization"]
    assert len(seen) == 10
    for document in seen:
        kubernetes_validate.validate(document, version, strict=True)


def test_schema_check_finds_misspelt_field() -> None:
    slip = one("Deployment")
    slip["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(slip, VERSIONS[-1], strict=True)


def test_kustomization_lists_every_file_except_cluster_wide_ones() -> None:
    listed = set(one("Kustomization")["resources"])
    files = {path.name for path in FOLDER.glob("*.yaml")}
    assert files - listed == {"kustomization.yaml", "prometheus-adapter.yaml"}
    assert listed <= files


def test_every_setting_in_manifests_exists_and_is_valid(container: dict[str, Any]) -> None:
    said = one("ConfigMap", "student-success")["data"]
    names = {name.lower() for name in said} | {entry["name"].lower() for entry in container["env"]}
    assert names <= set(Settings.model_fields)
    # Pydantic reads them as it will in the pod.
    settings = Settings(**{name.lower(): value for name, value in said.items()})
    assert settings.workers == 1
    drained = settings.drain_seconds + GRACEFUL_SECONDS
    assert pod_grace() >= drained + 10
    limit = container["resources"]["limits"]["memory"]
    assert settings.train_memory_mb + 512 <= int(limit.removesuffix("Gi")) * 1024


def pod_grace() -> int:
    seconds: int = one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    return seconds


def test_secrets_are_given_by_reference_only(container: dict[str, Any]) -> None:
    assert {entry["name"] for entry in container["env"]} == SECRETS
    for entry in container["env"]:
        assert entry["valueFrom"]["secretKeyRef"] == {
            "name": "student-success",
            "key": entry["name"],
        }
    assert not any(document["kind"] == "Secret" for _, document in documents())
    for name in one("ConfigMap", "student-success")["data"]:
        assert "TOKEN" not in name
        assert "PASSWORD" not in name


def test_pod_runs_without_privileges(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1034
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # What the image writes to, and nothing else.
    template = (ROOT / "docker" / "api.Dockerfile").read_text("utf-8")
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/var/lib/student-success", "/tmp"}
    assert "VOLUME /var/lib/student-success" in template
    enforced = one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_probes_and_ports_match_the_service(container: dict[str, Any]) -> None:
    paths = {endpoint.path for endpoint in ENDPOINTS}
    for probe, path in (
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        assert path in paths
    assert container["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
    assert "EXPOSE 8000" in (ROOT / "docker" / "api.Dockerfile").read_text("utf-8")
    assert one("Service")["spec"]["ports"][0]["targetPort"] == "http"


def test_ingress_exposes_contract_routes_except_internal_ones() -> None:
    (rule,) = one("Ingress")["spec"]["rules"]
    shown = {path["path"] for path in rule["http"]["paths"]}
    assert shown == {endpoint.path for endpoint in ENDPOINTS} - INTERNAL | {STATIC_FILES}


def test_all_manifests_select_the_same_pods() -> None:
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert one("Service")["spec"]["selector"] == labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert one("NetworkPolicy", "api")["spec"]["podSelector"]["matchLabels"] == labels
    target = one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == one("Deployment")["metadata"]["name"]


def test_autoscaler_uses_existing_metric() -> None:
    scaler = one("HorizontalPodAutoscaler")["spec"]
    asked = scaler["metrics"][0]["pods"]["metric"]["name"]
    (rule,) = yaml.safe_load(one("ConfigMap", "adapter-config")["data"]["config.yaml"])["rules"]
    assert rule["name"]["as"] == asked
    assert rule["seriesQuery"].startswith("bentoml_service_request_total{")
    # It owns the number of replicas, and can give one up at any time.
    assert "replicas" not in one("Deployment")["spec"]
    assert scaler["minReplicas"] > one("PodDisruptionBudget")["spec"]["maxUnavailable"]
