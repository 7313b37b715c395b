"""The command `serve` with the embedded models, as a process of its own, and on Ray Serve's HTTP.

The tests run in their order: the last one of the command ends it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest

from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.engine.config import STAGE_NAMES, demo
from pad_pipeline.engine.plan import Pool, StageSpec
from pad_pipeline.engine.sample import Sample
from pad_pipeline.records import PadRecord, Tag
from pad_pipeline.scenes.writer import write_scenes
from pad_pipeline.serve.config import ServiceConfig
from tests.ports import free_port

pytestmark = pytest.mark.ray

NUM_SCENES = 6
MAX_QUEUED = 12
START_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 300.0
PNG = {"content-type": "image/png"}


@dataclass(frozen=True)
class Command:
    """The running command, the file with its stderr, and where it answers."""

    process: subprocess.Popen[str]
    errors: Path
    url: str

    def post(self, data: bytes, query: str = "") -> httpx.Response:
        return post(self.url, data, query)

    def post_all(self, images: list[bytes], num_clients: int) -> list[httpx.Response]:
        with ThreadPoolExecutor(num_clients) as pool:
            return list(pool.map(self.post, images))


def post(url: str, data: bytes, query: str = "") -> httpx.Response:
    return httpx.post(f"{url}/annotate{query}", content=data, headers=PNG, timeout=ANSWER_TIMEOUT_S)


def wait_until(
    condition: Callable[[], bool], alive: Callable[[], bool] = lambda: True, what: str = "it"
) -> None:
    end_s = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not happen in {START_TIMEOUT_S:g} s"
        assert alive(), f"the command ended before {what} happened"
        time.sleep(0.1)


def status_of(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.TransportError:
        return None


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, num_images=NUM_SCENES, seed=3)
    return [path.read_bytes() for path in sorted((folder / "images").iterdir())]


@pytest.fixture(scope="module")
def in_process(images: list[bytes]) -> list[PadRecord]:
    """What the library's front door says of each image, seen alone."""
    return Annotator(replace(demo(), chunk_size=1)).annotate(images)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """`pad-pipeline serve`, ready."""
    port, errors = free_port(), tmp_path_factory.mktemp("serve") / "stderr"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pad_pipeline", "serve", "--preset", "demo"),
                *("--port", str(port), "--max-queued", str(MAX_QUEUED), "--ray-address", "local"),
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            lambda: status_of(f"{url}/readyz") == 200, lambda: process.poll() is None, "readiness"
        )
        yield Command(process, errors, url)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def as_json(record: PadRecord) -> dict:
    """A record as the service answers it, which names a body without a name `image`."""
    told = asdict(replace(record, image_id="image"))
    told["tags"] = list(told["tags"])
    for region in told["labels"]:
        region["bbox"] = list(region["bbox"])
        del region["size"]  # that of the image
    told["labels"] = list(told["labels"])
    return told


def found(record: dict) -> list[tuple[str, int]]:
    """What must be equal whoever travelled in the same batch: tags, and boxes to the pixel."""
    return [(region["tag"], *map(round, region["bbox"])) for region in record["labels"]]


def test_one_at_a_time_the_records_are_those_in_process(
    command: Command, images: list[bytes], in_process: list[PadRecord]
) -> None:
    assert sum(len(record.labels) for record in in_process) > NUM_SCENES
    for data, record in zip(images, in_process, strict=True):
        answer = command.post(data)
        assert (answer.status_code, answer.json()) == (200, as_json(record))


def test_a_higher_threshold_of_a_request_is_that_of_a_run(
    command: Command, images: list[bytes], in_process: list[PadRecord]
) -> None:
    scores = sorted(region.score for record in in_process for region in record.labels)
    higher = scores[len(scores) // 2]
    config = replace(demo(), chunk_size=1)
    config = replace(config, detect=replace(config.detect, box_threshold=higher))
    for data, record in zip(images, Annotator(config).annotate(images), strict=True):
        answer = command.post(data, f"?box_threshold={higher!r}").json()
        # SAM sees fewer boxes at once in that run, which may show in the last bits of a mask
        assert found(answer) == found(as_json(record))
        assert [region["score"] for region in answer["labels"]] == [
            region.score for region in record.labels
        ]
        assert answer["status"] == record.status


def test_together_each_gets_its_own_and_a_bad_one_harms_none(
    command: Command, images: list[bytes], in_process: list[PadRecord]
) -> None:
    broken = images[0][:-200]
    answers = command.post_all([*images, broken, b"no image"], num_clients=8)
    assert [answer.status_code for answer in answers] == [200] * NUM_SCENES + [400, 400]
    for answer, record in zip(answers, in_process, strict=False):
        told, expected = found(answer.json()), found(as_json(record))
        assert [tag for tag, *_ in told] == [tag for tag, *_ in expected]
        for (_, *box), (_, *other) in zip(told, expected, strict=True):
            assert box == pytest.approx(other, abs=1)


def test_a_full_queue_refuses_at_once_and_keeps_what_it_has(
    command: Command, images: list[bytes]
) -> None:
    answers = command.post_all([images[0]] * 3 * MAX_QUEUED, num_clients=3 * MAX_QUEUED)
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 429}, counts
    assert counts[200] >= MAX_QUEUED
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["error"]["cause"] == "queue_full"
            assert int(answer.headers["retry-after"]) > 0


def test_a_worker_killed_under_load_costs_no_request(command: Command, images: list[bytes]) -> None:
    replicas = [
        child
        for child in psutil.Process(command.process.pid).children(recursive=True)
        if "ServeReplica" in " ".join(child.cmdline())
    ]
    [replica] = replicas
    with ThreadPoolExecutor(MAX_QUEUED - 2) as pool:
        futures = [pool.submit(command.post, data) for data in images * 4]
        next(as_completed(futures))
        replica.suspend()  # so that the next requests are with it when it dies
        time.sleep(0.5)
        replica.kill()
        answers = [future.result() for future in futures]
    assert Counter(answer.status_code for answer in answers) == {200: 4 * NUM_SCENES}
    assert "a worker of annotate was lost" in command.errors.read_text()


OUTSIDE = "?boxes=[[9000,0,9100,50],[0,0,20,20]]"
"""A box beside the image, of which the worker that places it tells."""


def test_what_a_worker_tells_reaches_the_one_who_runs_the_command(
    command: Command, images: list[bytes]
) -> None:
    answer = command.post(images[0], OUTSIDE)
    assert [region["bbox"] for region in answer.json()["labels"]] == [[0, 0, 20, 20]]
    wait_until(
        lambda: "box 1 of image lies outside the image of" in command.errors.read_text(),
        what="the worker's line",
    )


def test_rays_metrics_count_the_images(command: Command) -> None:
    def counted() -> bool:
        text = httpx.get(f"{command.url}/metrics", timeout=30).text
        return "ray_pad_images_total{" in text and 'stage="annotate"' in text

    wait_until(counted, what="the first report of Ray's metrics")


def test_at_the_end_what_was_accepted_is_answered_and_nothing_else(
    command: Command, images: list[bytes]
) -> None:
    number = MAX_QUEUED - 2
    with ThreadPoolExecutor(number) as pool:
        accepted = [pool.submit(command.post, images[0]) for _ in range(number)]
        next(as_completed(accepted))
        command.process.send_signal(signal.SIGTERM)
        wait_until(lambda: status_of(f"{command.url}/readyz") != 200, what="the end")
        late = [] if status_of(f"{command.url}/readyz") is None else [command.post(images[0])]
        counts = Counter(future.result().status_code for future in accepted)
    # what had not been sent when the signal came is refused with a reason
    assert set(counts) <= {200, 503}, counts
    assert counts[200] >= 2
    for answer in late:
        assert (answer.status_code, answer.json()["error"]["cause"]) == (503, "draining")
    out, _ = command.process.communicate(timeout=ANSWER_TIMEOUT_S)
    assert command.process.returncode == 0
    assert out == f"ready at {command.url}: POST /annotate, see {command.url}/docs\n"
    told = set(command.errors.read_text().splitlines())
    expected = (
        *("loading the models", "a worker of annotate was lost; its", "stopping after "),
        "given boxes are left out: box 1 of image lies outside",
    )
    assert all(line.startswith(expected) for line in told), told


def test_the_stages_on_workers_of_their_own_stand_behind_ray_serves_own_http(
    local_ray: None, images: list[bytes], in_process: list[PadRecord]
) -> None:
    import ray
    from ray import serve

    from pad_pipeline.cli.serve import application
    from pad_pipeline.serve.ingress import NAME

    port = free_port()
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    http = {"host": "127.0.0.1", "port": port}
    serve.start(proxy_location="HeadOnly", http_options=http, logging_config=quiet)
    try:
        options = f"--layout pools --max-queued {MAX_QUEUED}"
        serve.run(application({"preset": "demo", "options": options}), logging_config=quiet)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: status_of(f"{url}/readyz") == 200, what="readiness")
        [running] = serve.status().applications.values()
        assert set(running.deployments) == {NAME, *STAGE_NAMES}
        for data, record in zip(images, in_process, strict=True):
            answer = post(url, data)
            assert (answer.status_code, answer.json()) == (200, as_json(record))
        answer = httpx.post(
            f"{url}/annotate", content=b"no image", headers=PNG, timeout=ANSWER_TIMEOUT_S
        )
        assert (answer.status_code, answer.json()["error"]["cause"]) == (400, "not_an_image")
        answer = httpx.post(
            f"{url}/annotate", content=bytes(70_000_000), headers=PNG, timeout=ANSWER_TIMEOUT_S
        )
        assert (answer.status_code, answer.json()["error"]["cause"]) == (413, "too_large")
        assert post(url, images[0], OUTSIDE).status_code == 200
        logs = Path(ray.worker.global_worker.node.get_logs_dir_path(), "serve")
        wait_until(
            lambda: any(
                "lies outside the image of" in path.read_text()
                for path in logs.glob(f"replica_*_{NAME}_*.log")
            ),
            what="the worker's line in the log of the HTTP side",
        )
    finally:
        serve.shutdown()


def name_yourself(seconds: dict[str, float]) -> Callable[[list[Sample]], list[Sample]]:
    """A stage that takes a while and names its process as each image's tag."""

    def stage(samples: list[Sample]) -> list[Sample]:
        time.sleep(0.1)
        for sample in samples:
            sample.tags = (Tag(str(os.getpid()), 1.0),)
        return samples

    return stage


def test_workers_come_with_load(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import serve

    from pad_pipeline.serve import deployments

    monkeypatch.setattr(deployments, "UPSCALE_DELAY_S", 1.0)
    pool = Pool(min_workers=1, max_workers=2, gpus=0.0, cpus=1.0)
    spec = StageSpec(name="tag", make=name_yourself, pool=pool, keep_bytes=False, batch_size=2)

    async def annotate_until_two_have_answered(calls: deployments.StageCalls) -> set[str]:
        seen: set[str] = set()

        async def client() -> None:
            while len(seen) < 2:
                sample = await calls.together(Sample(image_id="a", uri="a"))
                seen.update(tag.tag for tag in sample.tags)

        await asyncio.wait_for(asyncio.gather(*[client() for _ in range(12)]), START_TIMEOUT_S)
        return seen

    try:
        application = deployments.stage_application(
            spec, ServiceConfig(batch_wait_s=0.0), hang_after_s=60.0
        )
        [handle] = deployments.deploy({"pad-load": application}).values()
        assert serve.status().applications["pad-load"].deployments["tag"].replica_states == {
            "RUNNING": 1
        }
        calls = deployments.stage_calls("tag", handle)
        assert len(asyncio.run(annotate_until_two_have_answered(calls))) == 2
    finally:
        serve.shutdown()
