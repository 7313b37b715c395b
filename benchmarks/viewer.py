"""The viewer on a data set of the paper's size: index, pages, filters, deep pages, memory.

`python benchmarks/viewer.py` writes 558,128 rows with 2.3 million regions of 4,585 tags into a
temporary folder (short masks, no images), indexes them, starts the server as a process of its own
and asks for every page several times. A page's time is that of the whole answer, from this process.
"""

from __future__ import annotations

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import common
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from pad_pipeline.records import PAD_SCHEMA

NUM_ROWS, NUM_TAGS, REGIONS_PER_IMAGE = 558_128, 4585, 4.12
ROWS_PER_SHARD = 2048
REPEATS = 5
GOAL_MS, GOAL_MB = 300, 1000
WORDS = (
    *("a", "the", "of", "on", "in", "with", "red", "blue", "small", "large", "old", "white"),
    *("black", "wooden", "street", "table", "dog", "cat", "man", "woman", "car", "tree"),
    *("beach", "city", "photo", "sign", "house", "room", "flower", "food", "water", "sky"),
)


def main() -> None:
    """Write the data set, measure, write and print."""
    parser = common.make_parser(__doc__, "viewer")
    parser.add_argument("--num-rows", type=int, default=NUM_ROWS)
    parser.add_argument("--folder", type=Path, help="where a data set of an earlier run lies")
    arguments = parser.parse_args()
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        data = folder / "annotations"
        if not data.exists():
            num_regions = write_data(data, arguments.num_rows)
            common.say(f"wrote {arguments.num_rows:,} rows, {num_regions:,} regions")
        result = measure(data, folder / "cache", arguments.num_rows)
    common.write_result(arguments.output, machine, result)


def measure(data: Path, cache: Path, num_rows: int) -> dict[str, Any]:
    """Index time and memory, then the pages' times and the server's memory."""
    environment = {**os.environ, "PAD_CACHE": str(cache)}
    index = make_index(data, environment)
    server = subprocess.Popen(
        [sys.executable, "-m", "pad_pipeline", "view", str(data), "--port", "0"],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        began = time.perf_counter()
        address = next(line for line in server.stdout if "http://" in line).split()[2]
        start_s = time.perf_counter() - began
        port = int(address.rpartition(":")[2])
        process = psutil.Process(server.pid)
        pages = {name: ask(port, path, process) for name, path in paths(num_rows).items()}
        memory = process.memory_info()
        peak_mb = peak_memory_mb(server.pid)
    finally:
        server.terminate()
        server.wait(20)
    slowest = max(pages.values(), key=lambda page: page["p50_ms"])["p50_ms"]
    return {
        "what": "the viewer on synthetic records of the paper's size; no images",
        "num_rows": num_rows,
        "num_tags": NUM_TAGS,
        "goal": {"page_ms": GOAL_MS, "memory_mb": GOAL_MB},
        "index": index,
        "start_with_index_s": round(start_s, 2),
        "server_memory_mb": round(memory.rss / 1e6),
        "server_peak_memory_mb": round(peak_mb),
        "slowest_p50_ms": slowest,
        "slowest_max_ms": max(page["max_ms"] for page in pages.values()),
        "most_cpu_ms": max(page["cpu_ms"] for page in pages.values()),
        "pages_over_goal": [name for name, page in pages.items() if page["p50_ms"] > GOAL_MS],
        "repeats": REPEATS,
        "pages": pages,
    }


def paths(num_rows: int) -> dict[str, str]:
    """The paths to request: every page, filter and sort, and pages far down."""
    deep = int(num_rows * 0.896) // 48  # image 500,000 of 558,128
    one = quote(image_id(num_rows // 2), safe="")
    found = {
        "grid": "/?",
        "grid, page at 500,000": f"/?page={deep}",
        "tag, frequent": "/?tag=tag%200000",
        "tag, rare": "/?tag=tag%204000",
        "two tags": "/?tag=tag%200000&tag=tag%200001",
        "tag without a box": "/?tag=tag%200000&boxed=no",
        "status": "/?status=failed",
        "score": "/?min_score=0.8",
        "area": "/?min_area=60000",
        "predicted IoU": "/?min_iou=0.9",
        "tag, score and area": "/?tag=tag%200000&min_score=0.5&min_area=2000",
        "words of the caption": "/?q=red%20dog",
        "image id": "/?image=0031",
        "number of regions": "/?min_regions=8",
        "everything at once": "/?tag=tag%200000&min_score=.5&q=dog&min_regions=3&sort=area",
    }
    for sort in ("score", "area", "regions", "tag", "status", "caption"):
        found[f"sorted by {sort}"] = f"/?sort={sort}"
        found[f"sorted by {sort}, at 500,000"] = f"/?sort={sort}&page={deep}"
    found |= {
        "image": f"/image/{one}?",
        "image, under filters": f"/image/{one}?min_score=0.5&sort=score",
        "tags": "/tags?",
        "tags, last page": "/tags?page=45",
        "tags by name": "/tags?q=tag%2012",
        "one tag": "/tags?name=tag%200000",
        "statistics": "/stats?",
        "failures": "/failures?",
        "records as JSON": "/api/records?tag=tag%200000&limit=100",
        "records at 500,000": f"/api/records?limit=100&offset={deep * 48}",
        "one record as JSON": f"/api/record/{one}?",
        "healthz": "/healthz?",
    }
    return found


def ask(port: int, path: str, server: psutil.Process, repeats: int = REPEATS) -> dict[str, Any]:
    """Milliseconds of whole answers; each asks for something new, so that no count is reused.

    `cpu_ms` is what the server computed for one, which does not depend on other programs.
    """
    times = []
    before = sum(server.cpu_times()[:2])
    for number in range(repeats):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        # A new lower bound that changes no result: the counts of filters are kept by the server.
        extra = f"&min_regions=0&max_regions={10_000 + number}" if path.startswith("/?") else ""
        if "regions=" in path:
            extra = f"&max_regions={10_000 + number}"
        began = time.perf_counter()
        connection.request("GET", path + extra)
        answer = connection.getresponse()
        size = len(answer.read())
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200, (path, answer.status)
        connection.close()
    spent = sum(server.cpu_times()[:2]) - before
    return {
        "cpu_ms": round(1000 * spent / repeats, 1),
        "p50_ms": round(statistics.median(times), 1),
        "max_ms": round(max(times), 1),
        "kb": round(size / 1000, 1),
    }


def make_index(data: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Seconds, bytes and peak memory of making the index in a process of its own."""
    code = (
        "import resource, sys; from pad_pipeline.view.index import build, scan; "
        "path = build(scan(sys.argv[1])); "
        "print(path.stat().st_size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(data)],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    size, peak_kib = map(int, done.stdout.split())
    return {
        "seconds": round(seconds, 1),
        "size_mb": round(size / 1e6, 1),
        "peak_memory_mb": round(peak_kib * 1024 / 1e6),
        "shards_mb": round(sum(path.stat().st_size for path in data.glob("*.parquet")) / 1e6, 1),
    }


def peak_memory_mb(pid: int) -> float:
    """The peak resident memory of a process, from Linux's /proc."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# --- the data set ----------------------------------------------------------------------------


def image_id(number: int) -> str:
    """As LLaVA's 558K names them."""
    return f"{number // 1000:05d}/{number:09d}.jpg"


def write_data(folder: Path, num_rows: int) -> int:
    """Shards as `annotate` cuts them; returns the number of regions."""
    folder.mkdir(parents=True)
    make = np.random.default_rng(0)
    weights = 1 / (np.arange(NUM_TAGS) + 8.0)  # some hundred tags make up most of it
    ends = np.cumsum(weights / weights.sum())
    tags = np.array([f"tag {number:04d}" for number in range(NUM_TAGS)])
    num_regions = 0
    for shard, start in enumerate(range(0, num_rows, ROWS_PER_SHARD)):
        number = min(ROWS_PER_SHARD, num_rows - start)
        table = make_shard(make, start, number, tags, ends)
        num_regions += int(pa.compute.sum(pa.compute.list_value_length(table["labels"])).as_py())
        pq.write_table(
            table, folder / f"pad-{shard:05d}.parquet", compression="zstd", row_group_size=number
        )
    return num_regions


def make_shard(
    make: np.random.Generator, start: int, number: int, tags: np.ndarray, ends: np.ndarray
) -> pa.Table:
    """Records of `number` images from `start` on."""
    failed = make.random(number) < 0.003
    counts = np.where(failed, 0, make.poisson(REGIONS_PER_IMAGE, number))
    total = int(counts.sum())
    sides = np.where(failed, 0, make.integers(224, 640, number)), np.where(failed, 0, 448)
    width, height = (side.astype(np.int32) for side in sides)
    boxes = np.sort(make.random((total, 2, 2)), axis=1).reshape(total, 4).astype(np.float32) * 400
    region_tags = tags[np.searchsorted(ends, make.random(total)).clip(max=len(tags) - 1)]
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * 0.6).astype(np.int64)
    field = PAD_SCHEMA.field
    region = field("labels").type.value_type
    bbox = region.field("bbox").type
    labels = structs(
        region,
        total,
        tag=pa.array(region_tags.tolist(), pa.string()),
        score=pa.array(make.beta(4, 5, total).astype(np.float32)),
        bbox=pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), type=bbox),
        rle_mask=pa.array(["PPYo0" + "0" * int(n) for n in make.integers(20, 200, total)]),
        area=pa.array(area),
        predicted_iou=pa.array(make.beta(9, 2, total).astype(np.float32)),
    )
    given_counts = np.where(failed, 0, counts + make.poisson(2.0, number))
    extra = int(given_counts.sum())
    names = tags[np.searchsorted(ends, make.random(extra)).clip(max=len(tags) - 1)].tolist()
    given = structs(
        field("tags").type.value_type,
        extra,
        tag=pa.array(names),
        score=pa.array(make.uniform(0.68, 1, extra).astype(np.float32)),
    )
    words = make.integers(0, len(WORDS), (number, 12))
    error = {"stage": "decode", "type": "ImageError", "message": "the file is empty (0 bytes)"}
    columns = {
        "image_id": [image_id(start + row) for row in range(number)],
        "uri": [f"/data/images/{image_id(start + row)}" for row in range(number)],
        "width": width,
        "height": height,
        "caption": [" ".join(WORDS[word] for word in row) for row in words],
        "status": np.where(failed, "failed", np.where(counts > 0, "ok", "empty")).tolist(),
        "error": [error if is_failed else None for is_failed in failed],
        "tags": pa.ListArray.from_arrays(offsets(given_counts), given, type=field("tags").type),
        "labels": pa.ListArray.from_arrays(offsets(counts), labels, type=field("labels").type),
        "captions": pa.nulls(number, field("captions").type),
    }
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value, field(name).type)
        for name, value in columns.items()
    ]
    return pa.table(arrays, schema=PAD_SCHEMA)


def structs(kind: pa.StructType, number: int, **arrays: pa.Array) -> pa.StructArray:
    """The structs of a kind; what is not given is as the models leave it."""
    for field in kind:
        nothing = pa.nulls(number, field.type) if field.nullable else pa.array(["model"] * number)
        arrays.setdefault(field.name, nothing)
    return pa.StructArray.from_arrays([arrays[field.name] for field in kind], fields=list(kind))


def offsets(counts: np.ndarray) -> pa.Array:
    """The offsets of a list column."""
    return pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


if __name__ == "__main__":
    main()
