"""Validate manifests as a Kubernetes server with KubeRay's resource definition would.

    python -m tests.deploy.check_crd ray.io_rayjobs.yaml [MANIFEST…]

The definition is KubeRay's `ray-operator/config/crd/bases/ray.io_rayjobs.yaml`. Without manifests,
those of deploy/kuberay are taken. Fields that the definition does not know are errors, as they are
for `kubectl apply`; its rules in CEL are not evaluated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import yaml

KUBERAY = Path(__file__).parents[2] / "deploy" / "kuberay"


def schemas(definition: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The schema of each served version, by apiVersion and kind."""
    crd = yaml.safe_load(definition.read_text(encoding="utf-8"))["spec"]
    return {
        (f"{crd['group']}/{version['name']}", crd["names"]["kind"]): _closed(
            version["schema"]["openAPIV3Schema"], root=True
        )
        for version in crd["versions"]
    }


def _closed(schema: Any, *, root: bool = False) -> Any:
    """The schema with unknown fields forbidden wherever the fields are listed."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        name: {field: _closed(part) for field, part in value.items()}
        if name == "properties"
        else _closed(value)
        for name, value in schema.items()
    }
    opened = schema.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in schema and "additionalProperties" not in schema and not opened:
        closed["additionalProperties"] = False
    if root:
        closed["properties"]["metadata"] = {"type": "object"}  # the server's own schema
    return closed


def documents(manifest: Path) -> Iterator[dict[str, Any]]:
    """The objects of a manifest."""
    yield from yaml.safe_load_all(manifest.read_text(encoding="utf-8"))


def errors(definition: Path, manifests: Sequence[Path]) -> list[str]:
    """What is wrong, one line each; objects of other kinds are passed over."""
    known = schemas(definition)
    found, num_checked = [], 0
    for manifest in manifests:
        for document in documents(manifest):
            schema = known.get((document["apiVersion"], document["kind"]))
            if schema is None:
                continue
            num_checked += 1
            validator = jsonschema.Draft7Validator(schema)
            for error in sorted(validator.iter_errors(document), key=str):
                place = ".".join(map(str, error.absolute_path))
                found.append(f"{manifest.name}: {place}: {error.message}")
    if not num_checked:
        found.append(f"no manifest holds what {definition.name} defines")
    return found


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    definition, *manifests = map(Path, arguments)
    found = errors(definition, manifests or sorted(KUBERAY.glob("*.yaml")))
    sys.stdout.write("\n".join(found or ["valid"]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
