"""What is deployed: every file parses, every command is one of ours, nothing is open or secret."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from ray.serve.schema import ServeDeploySchema

from pad_pipeline.cli import serve
from pad_pipeline.serve.config import API_KEY_VARIABLE, ServiceConfig
from tests.cli import command_lines
from tests.deploy import check_crd

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kuberay").glob("*.yaml"))
LAUNCHER = DEPLOY / "cluster-launcher" / "aws.yaml"
SBATCH = DEPLOY / "slurm" / "annotate.sbatch"
DOCKERFILE = ROOT / "Dockerfile"
README = DEPLOY / "README.md"
PLACEHOLDERS = {"MY-REGISTRY", "MY-BUCKET", "MY-AMI", "MY-PROFILE", "MY-SECURITY-GROUP"}
JOBS = ("annotate", "train")
SERVICE = "serve"
CLUSTERS = (*JOBS, SERVICE)


def job(name: str) -> dict[str, Any]:
    """The spec of a RayJob."""
    return _spec(name, "RayJob")


def cluster_of(name: str) -> dict[str, Any]:
    """The cluster of a RayJob or of the RayService."""
    if name == SERVICE:
        return _spec(name, "RayService")["rayClusterConfig"]
    return job(name)["rayClusterSpec"]


def _spec(name: str, kind: str) -> dict[str, Any]:
    [document] = check_crd.documents(DEPLOY / "kuberay" / f"{name}.yaml")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", kind)
    return document["spec"]


def serve_config() -> dict[str, Any]:
    """What the RayService tells Ray Serve."""
    return yaml.safe_load(_spec(SERVICE, "RayService")["serveConfigV2"])


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Every pod spec in a document."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for part in value.values():
            yield from pods(part)
    elif isinstance(value, list):
        for part in value:
            yield from pods(part)


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def commands() -> list[tuple[str, list[str]]]:
    """Every command of ours in the files, with the file's name."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in (SBATCH, README)}
    texts["models.yaml"] = "\n".join(
        text
        for document in check_crd.documents(DEPLOY / "kuberay" / "models.yaml")
        for pod in pods(document)
        for container in pod["containers"]
        for text in container["args"]
    )
    for name in JOBS:
        texts[f"{name}.yaml"] = job(name)["entrypoint"]
    [application] = serve_config()["applications"]
    arguments = application["args"]
    texts["serve.yaml"] = (
        f"pad-pipeline serve --preset {arguments['preset']} {arguments['options']}"
    )
    texts["Dockerfile"] = " ".join(json.loads(_instructions("CMD")[-1]))
    return [
        (name, words)
        for name, text in texts.items()
        for words in command_lines.commands_in(text)
        if words != ["annotate"]  # the page speaks of the command as such
    ]


def _instructions(name: str) -> list[str]:
    """The arguments of a Dockerfile's instructions of one kind, in order."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "words"),
    [pytest.param(*row, id=f"{row[0]}: {' '.join(row[1][:2])}") for row in commands()],
)
def test_every_command_is_one_of_ours(name: str, words: list[str]) -> None:
    called = command_lines.parse(words)
    assert called or "--help" in words, f"{name}: {words}"


def test_commands_are_found_in_every_file() -> None:
    found = {name for name, _ in commands()}
    files = {"models.yaml", "annotate.yaml", "train.yaml", "serve.yaml"}
    files |= {SBATCH.name, "README.md", "Dockerfile"}
    assert found == files


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(pytest.fail.Exception):
        command_lines.parse(["annotate", "a", "b", "--segment.pool.labels", "x"])


def test_manifests_are_valid_under_the_published_definition() -> None:
    definition = os.environ.get("PAD_KUBERAY_CRD")
    if definition:
        assert check_crd.errors(Path(definition), MANIFESTS) == []
    for name in JOBS:
        assert job(name)["shutdownAfterJobFinishes"]  # else a time to live is refused
    for name in CLUSTERS:
        cluster = cluster_of(name)
        assert {"rayVersion", "headGroupSpec", "workerGroupSpecs"} <= cluster.keys()
        names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
        assert len(set(names)) == len(names)
        for group in groups(cluster):
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_checker_refuses_what_the_definition_does_not_know(tmp_path: Path) -> None:
    fields = {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}
    definition = {
        "spec": {
            "group": "ray.io",
            "names": {"kind": "RayJob"},
            "versions": [
                {"name": "v1", "schema": {"openAPIV3Schema": {"properties": {**fields}}}},
            ],
        }
    }
    crd, manifest = tmp_path / "crd.yaml", tmp_path / "job.yaml"
    crd.write_text(yaml.safe_dump(definition))
    head = "apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {name: a}\n"
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].update(
        {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    )
    crd.write_text(yaml.safe_dump(definition))
    for body, expected in (
        ("spec: {replicas: 1}", 0),
        ("spec: {replicas: one}", 1),
        ("spec: {replica: 1}", 1),
    ):
        manifest.write_text(head + body)
        assert len(check_crd.errors(crd, [manifest])) == expected
    manifest.write_text("apiVersion: v1\nkind: Pod\n")
    assert len(check_crd.errors(crd, [manifest])) == 1


def test_the_launcher_file_is_valid_under_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    config = yaml.safe_load(LAUNCHER.read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    nodes = config["available_node_types"]
    assert config["head_node_type"] in nodes
    workers = [node for name, node in nodes.items() if name != config["head_node_type"]]
    assert sum(node["max_workers"] for node in workers) == config["max_workers"]


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_have_tokens_and_no_open_dashboard(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster["authOptions"] == {"mode": "token"}
    assert Version(cluster["rayVersion"]) in Requirement("ray>=2.60,<2.61").specifier
    head = cluster["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["enableIngress"] is False


def test_other_clusters_have_tokens_and_no_open_dashboard() -> None:
    launcher = yaml.safe_load(LAUNCHER.read_text(encoding="utf-8"))
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        [start] = [line for line in launcher[kind] if "ray start" in line]
        assert "RAY_AUTH_MODE=token" in start
        assert ("--dashboard-host=127.0.0.1" in start) == ("--head" in start)
    for node in launcher["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"] == ["MY-SECURITY-GROUP"]
    script = SBATCH.read_text(encoding="utf-8")
    assert "RAY_AUTH_MODE=token" in script
    assert script.count("--dashboard-host=127.0.0.1") == script.count("--head ") == 1


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_pods_are_confined_and_bounded(manifest: Path) -> None:
    found = [pod for document in check_crd.documents(manifest) for pod in pods(document)]
    assert found
    for pod in found:
        assert pod["automountServiceAccountToken"] is False
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == int(_instructions("USER")[-1].split(":")[0])
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize("name", CLUSTERS)
def test_weights_are_mounted_for_reading(name: str) -> None:
    for group in groups(cluster_of(name)):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["models"]["readOnly"] is True
        folder = mounts["models"]["mountPath"]
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        for variable in ("PAD_MODELS", "HF_HOME"):
            assert environment[variable].startswith(f"{folder}/")
        assert {volume["name"] for volume in pod["volumes"]} >= mounts.keys()


@pytest.mark.parametrize("name", CLUSTERS)
def test_memory_for_sharing_holds_rays_objects(name: str) -> None:
    for group in groups(cluster_of(name)):
        pod = group["template"]["spec"]
        [shm] = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
        assert shm["medium"] == "Memory"
        room = int(shm["sizeLimit"].removesuffix("Gi")) << 30
        assert int(group["rayStartParams"]["object-store-memory"]) < room
        limit = pod["containers"][0]["resources"]["limits"]["memory"]
        assert room < int(limit.removesuffix("Gi")) << 30


@pytest.mark.parametrize("name", JOBS)
def test_jobs_end_their_clusters_and_continue_when_repeated(name: str) -> None:
    spec = job(name)
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] >= 1
    assert spec["activeDeadlineSeconds"] > 0
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_groups_have_the_sizes_of_the_pools() -> None:
    spec = job("annotate")
    words = spec["entrypoint"].split()
    options = dict(itertools.pairwise(words))
    workers = {group["groupName"]: group for group in spec["rayClusterSpec"]["workerGroupSpecs"]}
    for group, stage in (("ram", "tag"), ("dino", "detect"), ("sam", "segment")):
        assert int(options[f"--{stage}.pool.max-workers"]) == workers[group]["replicas"]
    slots = {name: int(group["rayStartParams"]["num-cpus"]) for name, group in workers.items()}
    assert max(slots["ram"], slots["dino"]) < float(options["--segment.pool.cpus"]) <= slots["sam"]
    for group in workers.values():
        [container] = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert limits["cpu"] == group["rayStartParams"]["num-cpus"]
        assert limits["nvidia.com/gpu"] == group["rayStartParams"]["num-gpus"] == "1"


def test_workers_of_training_are_the_gpus_of_its_group() -> None:
    spec = job("train")
    words = spec["entrypoint"].split()
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    gpus = group["replicas"] * int(group["rayStartParams"]["num-gpus"])
    assert int(words[words.index("--workers") + 1]) == gpus


def test_the_service_is_one_that_ray_serve_takes() -> None:
    config = ServeDeploySchema.model_validate(serve_config())
    [application] = config.applications
    module, _, name = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    parameter, *others = inspect.signature(serve.application).parameters
    assert (parameter, others) == ("arguments", [])
    http = serve_config()["http_options"]
    head = cluster_of(SERVICE)["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "serve", "containerPort": http["port"]} in head["ports"]
    # Serve's own limit must not cut off what the service would still answer
    assert http["request_timeout_s"] > ServiceConfig().timeout_s


def test_the_service_has_a_worker_for_each_gpu() -> None:
    options = dict(itertools.pairwise(serve_config()["applications"][0]["args"]["options"].split()))
    [group] = cluster_of(SERVICE)["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    assert int(options["--fused.max-workers"]) == group["replicas"]
    assert options["--device"] == "cuda"


def test_the_service_does_not_start_without_its_key() -> None:
    for group in groups(cluster_of(SERVICE)):
        [container] = group["template"]["spec"]["containers"]
        [key] = [entry for entry in container["env"] if entry["name"] == API_KEY_VARIABLE]
        reference = key["valueFrom"]["secretKeyRef"]
        assert reference["name"] == "pad-api-key"
        assert not reference.get("optional")


def test_the_image_is_pinned_and_runs_as_an_ordinary_user() -> None:
    [base] = [value for value in _instructions("ARG") if value.startswith("BASE=")]
    assert re.fullmatch(r"BASE=[\w/.-]+:[\w.-]*\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", base)
    assert all(line.split()[0] == "${BASE}" for line in _instructions("FROM"))
    assert int(_instructions("USER")[-1].split(":")[0]) >= 1000
    assert any("--require-hashes" in line for line in _instructions("RUN"))
    copied = {word for line in _instructions("COPY") for word in line.split()[:-1]}
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in copied - {"--from=build", "/opt/pad-pipeline"}:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in kept


def test_the_lock_has_what_the_package_wants() -> None:
    lock = (DEPLOY / "requirements.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, flags=re.MULTILINE))
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "index-url" not in lock
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [
        line for name in ("s3", "gcs", "train", "serve", "view") for line in extras[name]
    ]
    wanted += re.findall(r"^[a-z].*$", (DEPLOY / "requirements.in").read_text(), re.MULTILINE)
    for requirement in map(Requirement, wanted):
        version = pinned.get(requirement.name.lower())
        assert version, f"{requirement} is not in requirements.lock; make it anew"
        assert requirement.specifier.contains(version), f"{requirement}, locked: {version}"


def test_no_file_holds_a_secret() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".lock"]
    for path in [*files, DOCKERFILE]:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\bMY-[A-Z-]+\b", text)) <= PLACEHOLDERS, path
        for pattern in (
            r"\bAKIA[0-9A-Z]{16}\b",
            r"\bhf_\w{20,}",
            r"PRIVATE KEY",
            r"(?i)(secret|password|token)(_\w+)?\"?\s*[:=]\s*[\"']?[\w/+]{16,}",
        ):
            assert not re.search(pattern, text), f"{path}: {pattern}"
    for manifest in MANIFESTS:
        for document in check_crd.documents(manifest):
            assert document["kind"] != "Secret"
            for pod in pods(document):
                for container in pod["containers"]:
                    for entry in container.get("env", ()):
                        named = re.search("TOKEN|SECRET|PASSWORD|ACCESS_KEY|API_KEY", entry["name"])
                        assert not (named and "value" in entry), entry


def test_every_link_of_the_page_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!http|#)([^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(targets) >= 5
    for target in targets:
        assert (DEPLOY / target).exists(), target
