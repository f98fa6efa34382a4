"""Build a Kustomize overlay without Kustomize, for the few features that our manifests use.

Another key of a kustomization raises, so that nothing is left out in silence. Where `kustomize` or
`kubectl` is installed, `test_kubernetes.py` compares both results.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
CLUSTER_WIDE = {"Namespace"}
_HASH_LETTERS = str.maketrans("013ae", "ghkmt")
_KEYS = {
    *("apiVersion", "kind", "namespace", "labels", "images", "configMapGenerator"),
    *("resources", "components", "patches"),
}


def build(overlay: Path) -> list[Manifest]:
    """Return the manifests of an overlay, with hashes in the names of generated ConfigMaps."""
    manifests: list[Manifest] = []
    generated: set[str] = set()
    _add(overlay, manifests, generated)
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "ConfigMap" and name in generated:
            new_name = f"{name}-{_hash(manifest)}"
            manifest["metadata"]["name"] = new_name
            for other in manifests:
                _rename_config_map(other, name, new_name)
    return manifests


def _add(folder: Path, manifests: list[Manifest], generated: set[str]) -> None:
    """Add a kustomization to the manifests; a component also changes those before it."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    if unknown := set(content) - _KEYS:
        raise NotImplementedError(f"{folder.name}: {sorted(unknown)}")
    is_component = content["kind"] == "Component"
    own: list[Manifest] = manifests if is_component else []
    for entry in content.get("resources", []):
        path = folder / entry
        if path.is_dir():
            _add(path, own, generated)
        else:
            own.extend(yaml.safe_load_all(path.read_text("utf-8")))
    for generator in content.get("configMapGenerator", []):
        _generate(folder, generator, own, generated)
    for entry in content.get("components", []):
        _add(folder / entry, own, generated)
    for patch in content.get("patches", []):
        _patch(patch, own)
    for manifest in own:
        metadata = manifest["metadata"]
        if "namespace" in content and manifest["kind"] not in CLUSTER_WIDE:
            metadata["namespace"] = content["namespace"]
        for labels in content.get("labels", []):
            metadata["labels"] = {**metadata.get("labels", {}), **labels["pairs"]}
    for image in content.get("images", []):
        for manifest in own:
            for container in pod_spec(manifest).get("containers", []):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    if not is_component:
        manifests.extend(own)


def pod_spec(manifest: Manifest) -> Manifest:
    """Return the specification of a manifest's pods; empty if it has none."""
    if manifest["kind"] == "Pod":
        return dict(manifest["spec"])
    spec: Manifest = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def _generate(folder: Path, generator: Manifest, own: list[Manifest], generated: set[str]) -> None:
    lines = [
        line
        for name in generator.get("envs", [])
        for line in (folder / name).read_text("utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    pairs = (line.partition("=") for line in [*lines, *generator.get("literals", [])])
    data = {key: value for key, _, value in pairs}
    if unknown := set(generator) - {"name", "behavior", "envs", "literals"}:
        raise NotImplementedError(sorted(unknown))
    if generator.get("behavior") == "merge":
        (old,) = [
            manifest
            for manifest in own
            if (manifest["kind"], manifest["metadata"]["name"]) == ("ConfigMap", generator["name"])
        ]
        old["data"].update(data)
        return
    generated.add(generator["name"])
    metadata = {"name": generator["name"]}
    own.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _patch(patch: Manifest, own: list[Manifest]) -> None:
    """Apply the operations `add` of a JSON patch."""
    target = patch["target"]
    chosen = [
        manifest
        for manifest in own
        if manifest["kind"] == target["kind"]
        and re.fullmatch(target["name"], manifest["metadata"]["name"])
    ]
    assert chosen, target
    for operation in yaml.safe_load(patch["patch"]):
        if operation["op"] != "add" or not operation["path"].endswith("/-"):
            raise NotImplementedError(operation)
        for manifest in chosen:
            place: Any = manifest
            for key in operation["path"].split("/")[1:-1]:
                place = place[int(key) if isinstance(place, list) else key]
            place.append(operation["value"])


def _hash(config_map: Manifest) -> str:
    """Return the suffix that Kustomize gives; its hash does not include the name."""
    content = {"kind": "ConfigMap", "name": "", "data": config_map["data"]}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(_HASH_LETTERS)


def _rename_config_map(manifest: Manifest, name: str, new_name: str) -> None:
    spec = pod_spec(manifest)
    sources = [
        *(source for part in spec.get("containers", []) for source in part.get("envFrom", [])),
        *spec.get("volumes", []),
    ]
    for source in sources:
        for key in ("configMapRef", "configMap"):
            if source.get(key, {}).get("name") == name:
                source[key]["name"] = new_name
