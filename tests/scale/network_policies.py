"""Evaluate Kubernetes network policies: may this pod open a connection to that port?"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

Labels = dict[str, str]


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside the cluster if it has no namespace.

    Attributes
    ----------
    ports
        Name to number of the ports that it listens on.
    """

    name: str
    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    address: str = ""

    @property
    def namespace_labels(self) -> Labels:
        return {"kubernetes.io/metadata.name": self.namespace}


def allowed(
    policies: list[dict[str, Any]], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Return whether both ends allow the connection, as Kubernetes defines it."""
    return _allows(policies, "egress", source, target, port, target, protocol) and _allows(
        policies, "ingress", target, source, port, target, protocol
    )


def _allows(
    policies: list[dict[str, Any]],
    direction: str,
    subject: Peer,
    other: Peer,
    port: int,
    listener: Peer,
    protocol: str,
) -> bool:
    """Return whether the policies of one end allow it; without any, everything is allowed."""
    chosen = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == subject.namespace
        and _matches(policy["spec"]["podSelector"], subject.labels)
        and direction.capitalize() in policy["spec"]["policyTypes"]
    ]
    rules = [rule for policy in chosen for rule in policy["spec"].get(direction, [])]
    peers = "to" if direction == "egress" else "from"
    return not chosen or any(
        any(_is_peer(peer, other, subject.namespace) for peer in rule[peers])
        and any(_is_port(entry, port, listener, protocol) for entry in rule["ports"])
        for rule in rules
    )


def _matches(selector: dict[str, Any], labels: Labels) -> bool:
    if set(selector) - {"matchLabels"}:
        raise NotImplementedError(selector)
    return selector.get("matchLabels", {}).items() <= labels.items()


def _is_peer(peer: dict[str, Any], other: Peer, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        inside = bool(other.address) and ipaddress.ip_address(
            other.address
        ) in ipaddress.ip_network(block["cidr"])
        return inside and "except" not in block
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        in_namespace = _matches(peer["namespaceSelector"], other.namespace_labels)
    else:
        in_namespace = other.namespace == own_namespace
    return in_namespace and _matches(peer.get("podSelector", {}), other.labels)


def _is_port(entry: dict[str, Any], port: int, listener: Peer, protocol: str) -> bool:
    number = (
        listener.ports.get(entry["port"], -1) if isinstance(entry["port"], str) else entry["port"]
    )
    return number == port and entry.get("protocol", "TCP") == protocol
