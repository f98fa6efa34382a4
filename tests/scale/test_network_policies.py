"""Each overlay of the Kubernetes manifests allows the connections listed here, and no others."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from student_success.core.paths import ROOT
from tests.scale.kustomize import build
from tests.scale.network_policies import Peer, allowed

OVERLAYS = ROOT / "deploy" / "kubernetes" / "overlays"
NAMESPACE = "student-success"
STRANGERS = (
    Peer("ingress", "ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}, {"http": 80}),
    Peer("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}, {"web": 9090}),
    Peer("grafana", "monitoring", {"app.kubernetes.io/name": "grafana"}, {"http": 3000}),
    Peer("pod beside the ingress", "ingress-nginx", {"app": "x"}, {"http": 8080}),
    Peer("pod in the namespace", NAMESPACE, {"run": "load-data"}, {"http": 8080}),
    Peer("pod elsewhere", "default", {"app.kubernetes.io/component": "ui"}, {"http": 8080}),
    Peer(
        "API of another namespace",
        "staging",
        {"app.kubernetes.io/name": "student-success", "app.kubernetes.io/component": "api"},
        {"http": 8000},
    ),
    Peer("internet", address="198.51.100.7", ports={"https": 443, "postgresql": 5432}),
)
OUTSIDE = (
    Peer("postgresql", address="192.0.2.10", ports={"postgresql": 5432, "ssh": 22}),
    Peer("neighbour of postgresql", address="192.0.2.11", ports={"postgresql": 5432}),
    Peer("mlflow", "mlflow", {"app.kubernetes.io/name": "mlflow"}, {"http": 5000}),
    Peer("pod beside mlflow", "mlflow", {"app.kubernetes.io/name": "minio"}, {"http": 5000}),
)
DNS = Peer("dns", "kube-system", {"k8s-app": "kube-dns"}, {"dns": 53})
ALLOWED = {
    ("ingress", "api", 8000),
    ("ingress", "ui", 7860),
    ("ui", "api", 8000),
    ("prometheus", "api", 8000),
    ("api", "postgresql", 5432),
    ("api", "mlflow", 5000),
}
PLACEMENTS: dict[str, tuple[tuple[Peer, ...], set[tuple[str, str, int]]]] = {
    "inside": ((), {("mlflow", "postgresql", 5432)}),
    "outside": (OUTSIDE, set()),
}


def own_pods(manifests: list[dict[str, Any]]) -> list[Peer]:
    """Return a pod of each Deployment and StatefulSet, by name and labels of its template."""
    return [
        Peer(
            manifest["metadata"]["name"],
            manifest["metadata"]["namespace"],
            manifest["spec"]["template"]["metadata"]["labels"],
            {
                port["name"]: port["containerPort"]
                for container in manifest["spec"]["template"]["spec"]["containers"]
                for port in container["ports"]
            },
        )
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "StatefulSet")
    ]


def policies_of(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]


def connections(
    policies: list[dict[str, Any]], peers: list[Peer], own: list[Peer]
) -> set[tuple[str, str, int]]:
    """Return the allowed connections that begin or end in our namespace, over TCP."""
    ports = sorted({port for peer in peers for port in peer.ports.values()})
    return {
        (source.name, target.name, port)
        for source, target, port in product(peers, peers, ports)
        if source is not target
        and (source in own or target in own)
        and allowed(policies, source, target, port)
    }


def test_every_overlay_is_walked() -> None:
    assert {path.name for path in OVERLAYS.iterdir()} == set(PLACEMENTS)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_policies_allow_what_the_service_needs_and_nothing_else(placement: str) -> None:
    outside, more = PLACEMENTS[placement]
    manifests = build(OVERLAYS / placement)
    own = own_pods(manifests)
    peers = [*own, *STRANGERS, *outside]
    in_namespace = [peer for peer in peers if peer.namespace == NAMESPACE]
    assert {"api", "ui"} <= {peer.name for peer in own}
    assert connections(policies_of(manifests), peers, in_namespace) == ALLOWED | more


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_only_pods_that_use_names_reach_dns(placement: str) -> None:
    manifests = build(OVERLAYS / placement)
    policies, own = policies_of(manifests), own_pods(manifests)
    reach = {
        peer.name
        for peer in [*own, *(peer for peer in STRANGERS if peer.namespace == NAMESPACE)]
        if allowed(policies, peer, DNS, 53, "UDP") and allowed(policies, peer, DNS, 53)
    }
    assert reach == {"api", "ui", "mlflow"} & {peer.name for peer in own}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_addresses_in_the_settings_are_allowed_ports(placement: str) -> None:
    (settings,) = (
        manifest["data"]
        for manifest in build(OVERLAYS / placement)
        if manifest["kind"] == "ConfigMap"
        and manifest["metadata"]["name"] != "postgresql-databases"
    )
    _, _, registry = settings["MLFLOW_TRACKING_URI"].rpartition("//")
    host, _, port = registry.partition(":")
    assert (host.partition(".")[0], int(port)) == ("mlflow", 5000)
    assert host.partition(".")[2] == ("" if placement == "inside" else "mlflow")
    assert settings["UI_API_URL"] == "http://api:8000"


@pytest.mark.parametrize(
    ("removed", "lost"),
    [
        ("api-storage", ("api", "postgresql", 5432)),
        ("postgresql", ("mlflow", "postgresql", 5432)),
        ("ui", ("ui", "api", 8000)),
    ],
)
def test_connection_is_refused_without_the_policy_of_either_end(
    removed: str, lost: tuple[str, str, int]
) -> None:
    manifests = build(OVERLAYS / "inside")
    own = own_pods(manifests)
    kept = [policy for policy in policies_of(manifests) if policy["metadata"]["name"] != removed]
    assert lost not in connections(kept, own, own)


def test_everything_is_allowed_without_policies() -> None:
    own = own_pods(build(Path(OVERLAYS / "inside")))
    assert len(connections([], own, own)) > len(ALLOWED)
