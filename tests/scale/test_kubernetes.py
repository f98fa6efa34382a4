"""The Kubernetes manifests are valid, name what exists, and ask for no more than they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from student_success.api.auth import Role
from student_success.api.endpoints import ENDPOINTS, STATIC_FILES
from student_success.cli.server_commands import GRACEFUL_SECONDS
from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT
from tests.documented_commands import commands_of
from tests.scale.kustomize import build, pod_spec

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted((FOLDER / "overlays").iterdir())
VERSIONS = ("1.27", "1.31", kubernetes_validate.latest_version())
INTERNAL = {"/metrics", "/livez", "/readyz"}
SECRETS = {"DATABASE_URL", "ADMIN_TOKEN", "API_TOKEN"}
# What we use of the Prometheus operator's resources, which are not in the schemas of Kubernetes.
OPERATOR = {
    "PodMonitor": {
        "type": "object",
        "additionalProperties": False,
        "required": ["selector", "podMetricsEndpoints"],
        "properties": {
            "selector": {"type": "object"},
            "sampleLimit": {"type": "integer"},
            "podMetricsEndpoints": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "port": {"type": "string"},
                        "path": {"type": "string"},
                        "interval": {"type": "string", "pattern": "^[0-9]+s$"},
                        "relabelings": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "targetLabel": {"type": "string"},
                                    "replacement": {"type": "string"},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
    "PrometheusRule": {
        "type": "object",
        "additionalProperties": False,
        "required": ["groups"],
        "properties": {
            "groups": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name", "rules"],
                    "properties": {
                        "name": {"type": "string"},
                        "interval": {"type": "string"},
                        "rules": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["expr"],
                                "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
                                "properties": {
                                    "alert": {"type": "string"},
                                    "record": {"type": "string"},
                                    "expr": {"type": "string"},
                                    "for": {"type": "string"},
                                    "keep_firing_for": {"type": "string"},
                                    "labels": {"additionalProperties": {"type": "string"}},
                                    "annotations": {"additionalProperties": {"type": "string"}},
                                },
                            },
                        },
                    },
                },
            }
        },
    },
}


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def overlay(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def manifests(overlay: Path) -> list[dict[str, Any]]:
    return build(overlay)


def one(manifests: list[dict[str, Any]], kind: str, name: str = "api") -> dict[str, Any]:
    (found,) = (
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and manifest["metadata"]["name"] == name
    )
    return found


def settings_of(manifests: list[dict[str, Any]]) -> dict[str, str]:
    (source,) = container_of(manifests)["envFrom"]
    data: dict[str, str] = one(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return data


def container_of(manifests: list[dict[str, Any]], name: str = "api") -> dict[str, Any]:
    (container,) = pod_spec(one(manifests, "Deployment", name))["containers"]
    return dict(container)


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for manifest in [*manifests, *single("load-data.yaml")]:
        if spec := pod_spec(manifest):
            yield spec


def single(name: str) -> list[dict[str, Any]]:
    """Return the manifests of a file that belongs to no overlay."""
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_match_the_schemas(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in [*manifests, *single("load-data.yaml"), *single("prometheus-adapter.yaml")]:
        if manifest["kind"] in OPERATOR:
            jsonschema.validate(manifest["spec"], OPERATOR[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_schema_check_finds_misspelt_field(manifests: list[dict[str, Any]]) -> None:
    slip = one(manifests, "Deployment")
    slip["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(slip, VERSIONS[-1], strict=True)


def test_kustomize_itself_builds_the_same(overlay: Path, manifests: list[dict[str, Any]]) -> None:
    program = next(filter(shutil.which, ("kustomize", "kubectl")), None)
    if program is None:
        pytest.skip("neither kustomize nor kubectl is installed: only our own reading was tested")
    command = [program, "build"] if program == "kustomize" else [program, "kustomize"]
    built = subprocess.run(
        [*command, str(overlay)], capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stderr

    def named(documents: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(entry["kind"], entry["metadata"]["name"]): entry for entry in documents}

    theirs = named(list(yaml.safe_load_all(built.stdout)))
    ours = named(manifests)
    assert ours.keys() == theirs.keys()
    for key, manifest in ours.items():
        assert manifest == theirs[key], key


def test_every_file_belongs_to_an_overlay_or_is_named_as_apart() -> None:
    listed = {"load-data.yaml", "prometheus-adapter.yaml"}
    for path in FOLDER.rglob("kustomization.yaml"):
        folder = path.parent.relative_to(FOLDER)
        content = yaml.safe_load(path.read_text("utf-8"))
        listed |= {str(folder / "kustomization.yaml")}
        listed |= {str(folder / name) for name in content.get("resources", [])}
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}
    assert files <= listed


def test_every_setting_in_manifests_exists_and_is_valid(manifests: list[dict[str, Any]]) -> None:
    given = settings_of(manifests)
    container = container_of(manifests)
    names = {name.lower() for name in given} | {entry["name"].lower() for entry in container["env"]}
    assert names <= set(Settings.model_fields)
    # Pydantic reads them as it will in the pod.
    settings = Settings(**{name.lower(): value for name, value in given.items()})
    for host in (*given["ALLOWED_HOSTS"].split(","), "api:8000", "10.1.2.3:8000"):
        assert settings.allows_host(host, address="0.0.0.0")
    assert settings.workers == 1
    grace = pod_spec(one(manifests, "Deployment"))["terminationGracePeriodSeconds"]
    assert grace >= settings.drain_seconds + GRACEFUL_SECONDS + 10
    limit = container["resources"]["limits"]["memory"]
    assert settings.train_memory_mb + 512 <= int(limit.removesuffix("Gi")) * 1024


def test_changed_setting_restarts_the_pods(overlay: Path, tmp_path: Path) -> None:
    before = build(overlay)
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    settings = tmp_path / "kubernetes" / "base" / "settings.env"
    settings.write_text(settings.read_text("utf-8") + "LOG_LEVEL=DEBUG\n", "utf-8")
    after = build(tmp_path / "kubernetes" / "overlays" / overlay.name)
    for name in ("api", "ui"):
        (old,) = container_of(before, name)["envFrom"]
        (new,) = container_of(after, name)["envFrom"]
        assert old != new
    assert settings_of(after)["LOG_LEVEL"] == "DEBUG"


def test_secrets_are_given_by_reference_only(manifests: list[dict[str, Any]]) -> None:
    assert {entry["name"] for entry in container_of(manifests)["env"]} == SECRETS
    assert {entry["name"] for entry in container_of(manifests, "ui")["env"]} == {"API_TOKEN"}
    assert not any(manifest["kind"] == "Secret" for manifest in manifests)
    for spec in pods(manifests):
        for container in spec["containers"]:
            for entry in container.get("env", []):
                if "valueFrom" in entry:
                    reference = entry["valueFrom"]["secretKeyRef"]
                    assert reference["key"] == entry["name"]
                else:
                    assert "TOKEN" not in entry["name"]
                    assert "PASSWORD" not in entry["name"]
    assert not [name for name in settings_of(manifests) if "TOKEN" in name or "PASSWORD" in name]


STANDINS = {
    "kubectl": 'printf "%s\\n" "$*" >> commands',
    "openssl": 'test "$1" = rand && echo random || echo "$*"',
}
"""Of the programs that the commands of the page call; `openssl passwd` would ask for a password."""


def test_printed_commands_create_the_secrets_that_pods_read(tmp_path: Path) -> None:
    for name, script in STANDINS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    printed = commands_of("test_printed_commands_create_the_secrets_that_pods_read")
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-euc", "\n".join(printed)], cwd=tmp_path, env={"PATH": path}, check=True
    )
    lines = (tmp_path / "commands").read_text("utf-8").splitlines()
    overlay = ROOT / lines[-1].removeprefix("apply --kustomize ")
    manifests = build(overlay)
    namespace = one(manifests, "Deployment")["metadata"]["namespace"]
    assert lines[0] == f"create namespace {namespace}"
    created = {}
    for line in lines[1:-1]:
        name = re.match(rf"--namespace {namespace} create secret generic (\S+) ", line)
        assert name is not None, line
        values = dict(re.findall(r"--from-literal=(\w+)=(\S+)", line))
        assert all("random" in value or value == "school:passwd" for value in values.values())
        created[name[1]] = set(values)
    annotations = one(manifests, "Ingress", "ui")["metadata"]["annotations"]
    # The key is given by the ingress controller.
    needed = {annotations["nginx.ingress.kubernetes.io/auth-secret"]: {"auth"}}
    for spec in map(pod_spec, manifests):
        for container in spec.get("containers", []):
            for entry in container.get("env", []):
                if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                    needed.setdefault(reference["name"], set()).add(reference["key"])
    assert created == needed


def test_printed_commands_name_what_the_manifests_have(manifests: list[dict[str, Any]]) -> None:
    namespace = one(manifests, "Deployment")["metadata"]["namespace"]
    (pod,) = single("load-data.yaml")
    name = pod["metadata"]["name"]
    (service,) = one(manifests, "Service")["spec"]["ports"]
    expected = {
        f"kubectl apply --filename {(FOLDER / 'load-data.yaml').relative_to(ROOT)}",
        f"wait --for=condition=Ready pod/{name}",
        f"cp data/final.csv {name}:{settings_of(manifests)['DATA_PATH']}",
        f"delete pod {name}",
        "rollout restart deployment",
        f"port-forward service/api {service['port']}",
    }
    printed = commands_of("test_printed_commands_name_what_the_manifests_have")
    prefix = f"kubectl --namespace {namespace} "
    assert {line.removeprefix(prefix) for line in printed} == expected
    # The file names the namespace itself.
    assert pod["metadata"]["namespace"] == namespace


def test_every_pod_runs_without_privileges(manifests: list[dict[str, Any]]) -> None:
    for spec in pods(manifests):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
    namespace = one(manifests, "Namespace", "student-success")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", ["api", "ui", "mlflow"])
def test_pod_matches_its_image(manifests: list[dict[str, Any]], name: str) -> None:
    if not any(manifest["metadata"]["name"] == name for manifest in manifests):
        return
    spec, container = pod_spec(one(manifests, "Deployment", name)), container_of(manifests, name)
    dockerfile = (ROOT / "docker" / f"{name}.Dockerfile").read_text("utf-8")
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}" in dockerfile
    assert f"useradd --uid {spec['securityContext']['runAsUser']}" in dockerfile
    # Everything that the image writes to is a volume.
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {line.split()[1] for line in dockerfile.splitlines() if line.startswith("VOLUME")}
    assert volumes | {"/tmp"} | ({"/data"} if name != "mlflow" else set()) == mounted


def test_training_data_are_read_from_the_volume_that_is_loaded(
    manifests: list[dict[str, Any]],
) -> None:
    assert settings_of(manifests)["DATA_PATH"] == "/data/final.csv"
    one(manifests, "PersistentVolumeClaim", "training-data")
    (loader,) = single("load-data.yaml")
    (volume,) = loader["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "training-data"}
    for name in ("api", "ui"):
        mounts = container_of(manifests, name)["volumeMounts"]
        assert {"name": "training-data", "mountPath": "/data", "readOnly": True} in mounts
    assert loader["metadata"]["namespace"] == "student-success"
    assert loader["spec"]["containers"][0]["image"] == container_of(manifests)["image"]


def test_probes_match_the_service(manifests: list[dict[str, Any]]) -> None:
    paths = {endpoint.path for endpoint in ENDPOINTS}
    container = container_of(manifests)
    for probe, path in (
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        assert path in paths


def test_every_service_selects_a_pod_and_its_port(manifests: list[dict[str, Any]]) -> None:
    workloads = [entry for entry in manifests if entry["kind"] in ("Deployment", "StatefulSet")]
    services = [entry for entry in manifests if entry["kind"] == "Service"]
    assert {entry["metadata"]["name"] for entry in services} == {
        entry["metadata"]["name"] for entry in workloads
    }
    for service in services:
        (workload,) = (
            entry
            for entry in workloads
            if service["spec"]["selector"].items()
            <= entry["spec"]["template"]["metadata"]["labels"].items()
        )
        assert workload["metadata"]["name"] == service["metadata"]["name"]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == labels
        (port,) = service["spec"]["ports"]
        (listened,) = pod_spec(workload)["containers"][0]["ports"]
        assert (port["targetPort"], port["port"]) == (listened["name"], listened["containerPort"])


def test_ingress_exposes_neither_internal_routes_nor_those_of_administrators(
    manifests: list[dict[str, Any]],
) -> None:
    (rule,) = one(manifests, "Ingress")["spec"]["rules"]
    shown = {path["path"] for path in rule["http"]["paths"]}
    open_to_others = {
        endpoint.path for endpoint in ENDPOINTS if endpoint.role is not Role.ADMIN
    } - INTERNAL
    assert shown == open_to_others | {STATIC_FILES}
    assert not shown & {"/train", "/promote", "/rollback", "/deployments", "/versions", "/evidence"}
    assert all(
        path["pathType"] == ("Prefix" if path["path"] == STATIC_FILES else "Exact")
        for path in rule["http"]["paths"]
    )


def test_ingress_leads_to_services_by_names_that_the_application_accepts(
    manifests: list[dict[str, Any]],
) -> None:
    given = settings_of(manifests)
    hosts = {}
    for name in ("api", "ui"):
        ingress = one(manifests, "Ingress", name)
        assert ingress["spec"]["ingressClassName"] == "nginx"
        (rule,) = ingress["spec"]["rules"]
        (tls,) = ingress["spec"]["tls"]
        assert tls["hosts"] == [rule["host"]]
        hosts[name] = rule["host"]
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            assert backend["name"] == name
            (port,) = one(manifests, "Service", name)["spec"]["ports"]
            assert backend["port"]["name"] == port["name"]
    assert set(given["ALLOWED_HOSTS"].split(",")) == set(hosts.values())
    assert given["UI_URL"] == f"https://{hosts['ui']}"
    assert given["API_PUBLIC_URL"] == f"https://{hosts['api']}"


def test_interface_asks_for_a_login(manifests: list[dict[str, Any]]) -> None:
    annotations = one(manifests, "Ingress", "ui")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/auth-type"] == "basic"
    secret = annotations["nginx.ingress.kubernetes.io/auth-secret"]
    assert f"secret generic {secret}" in (ROOT / "docs" / "scaling.md").read_text("utf-8")


def test_autoscaler_and_disruption_budget_belong_to_the_api(
    manifests: list[dict[str, Any]],
) -> None:
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    budget = one(manifests, "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    scaler = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "api"
    metric = scaler["metrics"][0]["pods"]["metric"]["name"]
    (adapter,) = single("prometheus-adapter.yaml")
    (rule,) = yaml.safe_load(adapter["data"]["config.yaml"])["rules"]
    assert rule["name"]["as"] == metric
    assert rule["seriesQuery"].startswith("bentoml_service_request_total{")
    # It owns the number of replicas, and can give one up at any time.
    assert "replicas" not in one(manifests, "Deployment")["spec"]
    assert scaler["minReplicas"] > budget["maxUnavailable"]


def test_pod_monitor_scrapes_as_the_stack_does(manifests: list[dict[str, Any]]) -> None:
    monitor = one(manifests, "PodMonitor")["spec"]
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"] == labels
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text("utf-8"))
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "api")
    assert monitor["sampleLimit"] == job["sample_limit"]
    assert endpoint["interval"] == config["global"]["scrape_interval"]
    assert {"targetLabel": "job", "replacement": job["job_name"]} in endpoint["relabelings"]
