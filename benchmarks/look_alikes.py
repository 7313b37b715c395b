"""Look-alikes on a data set of the paper's size: making the indexes, the pages, and how exact.

`python benchmarks/look_alikes.py` writes the data set of `viewer.py` and random embeddings of RAM's
width for its images and regions: sums of 48 directions and a little noise, with planted copies of
images. It measures what follows from them (indexes, near-duplicates, map), asks the viewer for each
page several times, and compares one query by faiss with NumPy and DuckDB over all vectors.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import common
import duckdb
import numpy as np
import psutil
import pyarrow as pa
import viewer as viewer_benchmark

from pad_pipeline.dataset.reader import Dataset, iter_batches, open_dataset
from pad_pipeline.dataset.writer import write_table
from pad_pipeline.similarity import derive, store
from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.similarity.duplicates import read_groups
from pad_pipeline.similarity.search import find_nearest, from_ids, load_faiss, open_index, to_ids

WIDTH, DIRECTIONS, NOISE = 512, 48, 0.02
COPIES_SHARE = 0.01
ROWS_PER_GROUP = 256
NUM_QUERIES, NEIGHBOURS = 200, 48
CONFIG = EmbedConfig(map="pca")


def main() -> None:
    """Write data set and embeddings, measure, write and print."""
    parser = common.make_parser(__doc__, "look_alikes")
    parser.add_argument("--num-rows", type=int, default=viewer_benchmark.NUM_ROWS)
    parser.add_argument("--folder", type=Path, help="where an earlier run has put its data")
    parser.add_argument("--derive", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.derive:
        run_derive(arguments.derive)
        return
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        data = folder / "annotations"
        if not data.exists():
            viewer_benchmark.write_data(data, arguments.num_rows)
        dataset = open_dataset(str(data))
        embeddings = store.folder_of(str(data))
        if not store.read_manifest(embeddings):
            write_embeddings(dataset, embeddings)
            common.say(f"wrote the embeddings of {dataset.num_rows:,} images")
        done = subprocess.run(
            [sys.executable, __file__, "--derive", str(data)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        derived = json.loads(done.stdout)
        common.say(f"derived: {derived}")
        result = {
            "what": "look-alikes on synthetic embeddings of the paper's size; no images",
            "num_images": dataset.num_rows,
            "num_regions": derived.pop("num_regions"),
            "width": WIDTH,
            "goal": {"page_ms": viewer_benchmark.GOAL_MS, "memory_mb": viewer_benchmark.GOAL_MB},
            "derive": derived,
            "exactness": exactness(dataset, embeddings),
            "one_query": compare_ways(dataset, embeddings),
            **measure_pages(data, folder / "cache", dataset),
        }
    common.write_result(arguments.output, machine, result)


# --- the embeddings --------------------------------------------------------------------------


def write_embeddings(dataset: Dataset, folder: str) -> None:
    """One file per shard as `embed` writes it; its first images are copies of earlier ones."""
    make = np.random.default_rng(1)
    directions = make.normal(size=(DIRECTIONS, WIDTH)).astype(np.float32)
    kind = store.schema(WIDTH)
    before: tuple[np.ndarray, np.ndarray] | None = None
    for shard, table in by_shard(dataset):
        vectors = draw(make, directions, len(table))
        looks = make.integers(0, 256, (len(table), store.THUMBNAIL_SIDE**2), np.uint8)
        if before is not None:
            count = num_copies(len(table))
            noise = 0.005 * make.normal(size=(count, WIDTH))
            vectors[:count] = unit(before[0][count : 2 * count] + noise)
            looks[:count] = before[1][count : 2 * count]
        before = vectors, looks
        failed = np.asarray(table["status"].to_pylist()) == "failed"
        counts = pa.compute.list_value_length(table["labels"]).to_numpy()
        regions = draw(make, directions, int(counts.sum()))
        columns = [
            table["image_id"],
            as_lists(vectors.astype(np.float16), kind.field("embedding").type, failed),
            as_lists(looks, kind.field("thumbnail").type, failed),
            pa.ListArray.from_arrays(
                pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
                as_lists(regions.astype(np.float16), kind.field("embedding").type),
                type=kind.field("regions").type,
            ),
        ]
        write_table(f"{folder}/{shard}", pa.table(columns, schema=kind), ROWS_PER_GROUP)
    facts = {"model": "random", "checksum": "", "regions": True, "map": "pca"}
    facts |= {"duplicates_from": CONFIG.duplicates_from, "shards": store.shard_digests(dataset)}
    store.write_manifest(folder, {"state": "finished", **facts})


def num_copies(num_rows: int) -> int:
    """Images of a shard that are copies: its first, of the next so many of the shard before."""
    return int(COPIES_SHARE * num_rows)


def by_shard(dataset: Dataset) -> Iterator[tuple[str, pa.Table]]:
    """Names of shards with their ids, statuses and labels."""
    for shard in dataset.shards:
        batches = iter_batches(
            replace(dataset, shards=(shard,)), ["image_id", "status", "labels.list.element.area"]
        )
        yield shard.name, pa.Table.from_batches([batch for _, batch in batches]).combine_chunks()


def draw(make: np.random.Generator, directions: np.ndarray, count: int) -> np.ndarray:
    """Vectors that, as those of networks, vary in far fewer directions than they are wide."""
    spread = make.normal(size=(count, DIRECTIONS)) / np.arange(1, DIRECTIONS + 1) ** 0.5
    return unit(spread.astype(np.float32) @ directions + NOISE * make.normal(size=(count, WIDTH)))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def as_lists(values: np.ndarray, kind: pa.DataType, missing: np.ndarray | None = None) -> pa.Array:
    """Rows as fixed-size lists."""
    mask = None if missing is None else pa.array(missing)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind, mask=mask)


# --- what is measured ------------------------------------------------------------------------


def run_derive(url: str) -> None:
    """In a process of its own, for its memory: seconds, bytes and peak memory as JSON."""
    dataset = open_dataset(url)
    folder = store.folder_of(url)
    began = time.perf_counter()
    found = derive.derive(folder, dataset, CONFIG)
    seconds = time.perf_counter() - began
    names = (store.IMAGES_INDEX, store.REGIONS_INDEX, store.PAIRS, store.MAP)
    sizes = {name: (Path(folder) / name).stat().st_size / 1e6 for name in names}
    num_regions = open_index(Path(folder) / store.REGIONS_INDEX).ntotal
    vectors_mb = sum(path.stat().st_size for path in Path(folder).glob("pad-*")) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    facts = {"seconds": round(seconds, 1), "peak_memory_mb": round(peak)}
    facts |= {"num_regions": num_regions, "num_pairs": found.num_pairs}
    facts |= {"vectors_mb": round(vectors_mb)}
    facts["files_mb"] = {name: round(size, 1) for name, size in sizes.items()}
    sys.stdout.write(json.dumps(facts) + "\n")


def exactness(dataset: Dataset, folder: str) -> dict[str, Any]:
    """How many of the true nearest the indexes find, and how many of the planted copies."""
    found = {}
    for name, of_regions in ((store.IMAGES_INDEX, False), (store.REGIONS_INDEX, True)):
        index = open_index(Path(folder) / name)
        first = next(store.iter_vectors(folder, dataset, of_regions=of_regions))
        chosen = np.random.default_rng(2).permutation(len(first.rows))[:NUM_QUERIES]
        queries = first.values[chosen].astype(np.float32)
        ids, _ = find_nearest(index, queries, NEIGHBOURS)
        best_ids = np.zeros((NUM_QUERIES, 0), np.int64)
        best = np.zeros((NUM_QUERIES, 0), np.float32)
        for part in store.iter_vectors(folder, dataset, of_regions=of_regions):
            close = queries @ part.values.astype(np.float32).T
            best = np.concatenate([best, close], axis=1)
            own = np.broadcast_to(to_ids(part.rows, part.numbers), close.shape)
            best_ids = np.concatenate([best_ids, own], axis=1)
            order = np.argpartition(-best, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
            best, best_ids = (np.take_along_axis(one, order, axis=1) for one in (best, best_ids))
        both = zip(ids.tolist(), best_ids.tolist(), strict=True)
        shared = [len(set(some) & set(every)) for some, every in both]
        key = f"recall_at_{NEIGHBOURS}_{'regions' if of_regions else 'images'}"
        found[key] = round(float(np.mean(shared)) / NEIGHBOURS, 4)
    groups = read_groups(store.Embeddings(folder, store.read_manifest(folder)))
    planted = planted_pairs(dataset)
    found["copies_planted"] = len(planted)
    members = {row: number for number, group in enumerate(groups) for row in group.rows}
    together = [members.get(a, -1) == members.get(b, -2) for a, b in planted]
    found["copies_found"] = sum(together)
    return found


def planted_pairs(dataset: Dataset) -> list[tuple[int, int]]:
    """Rows of images and their copies, where neither failed."""
    failed = []
    for _, batch in iter_batches(dataset, ["status"]):
        failed += [status == "failed" for status in batch.column("status").to_pylist()]
    pairs, first = [], 0
    for before, shard in zip(dataset.shards, dataset.shards[1:], strict=False):
        start = first + before.num_rows
        count = num_copies(shard.num_rows)
        for number in range(count):
            if not failed[first + count + number] and not failed[start + number]:
                pairs.append((first + count + number, start + number))
        first = start
    return pairs


def compare_ways(dataset: Dataset, folder: str) -> dict[str, Any]:
    """Milliseconds of the nearest 48 images by three ways, in turns, on one thread each."""
    faiss = load_faiss()
    faiss.omp_set_num_threads(1)
    index = open_index(Path(folder) / store.IMAGES_INDEX)
    parts = [one.values for one in store.iter_vectors(folder, dataset, of_regions=False)]
    query = parts[0][7].astype(np.float32)
    con = duckdb.connect(config={"threads": 1})
    values = ", ".join(f"{value:.6f}" for value in query)
    sql = (
        f"SELECT image_id FROM '{folder}/pad-*.parquet' ORDER BY array_inner_product("
        f"embedding::FLOAT[{WIDTH}], [{values}]::FLOAT[{WIDTH}]) DESC NULLS LAST "
        f"LIMIT {NEIGHBOURS}"
    )

    def by_numpy() -> None:
        close = np.concatenate([part.astype(np.float32) @ query for part in parts])
        np.argpartition(-close, NEIGHBOURS)

    ways: dict[str, Callable[[], Any]] = {
        "faiss": lambda: from_ids(find_nearest(index, query[None], NEIGHBOURS)[0]),
        "numpy, float16 vectors in memory": by_numpy,
        "duckdb, from Parquet": lambda: con.execute(sql).fetchall(),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(1000 * (time.perf_counter() - began))
    faiss.omp_set_num_threads(faiss.omp_get_max_threads())
    best = {name: round(min(found), 1) for name, found in times.items()}
    memory = sum(part.nbytes for part in parts) / 1e6
    return {"best_ms": best, "numpy_vectors_mb": round(memory)}


def measure_pages(data: Path, cache: Path, dataset: Dataset) -> dict[str, Any]:
    """The pages' times and the server's memory, once the look-alikes are open."""
    environment = {**os.environ, "PAD_CACHE": str(cache)}
    viewer_benchmark.make_index(data, environment)
    server = subprocess.Popen(
        [sys.executable, "-m", "pad_pipeline", "view", str(data), "--port", "0"],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if "http://" in line).split()[2]
        port = int(address.rpartition(":")[2])
        process = psutil.Process(server.pid)
        opening = ask_once(port, "/map")
        for path in paths(dataset):
            ask_once(port, path)  # indexes are opened when they are first searched
        pages = {
            name: viewer_benchmark.ask(port, path, process) for path, name in paths(dataset).items()
        }
        memory, peak = process.memory_info(), viewer_benchmark.peak_memory_mb(server.pid)
    finally:
        server.terminate()
        server.wait(20)
    return {
        "first_page_ms": round(opening),
        "server_memory_mb": round(memory.rss / 1e6),
        "of_it_files_mb": round(memory.shared / 1e6),
        "server_peak_memory_mb": round(peak),
        "slowest_p50_ms": max(page["p50_ms"] for page in pages.values()),
        "most_cpu_ms": max(page["cpu_ms"] for page in pages.values()),
        "pages_over_goal": [
            name for name, page in pages.items() if page["p50_ms"] > viewer_benchmark.GOAL_MS
        ],
        "repeats": viewer_benchmark.REPEATS,
        "pages": pages,
    }


def ask_once(port: int, path: str) -> float:
    """Milliseconds of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, (path, answer.status)
    connection.close()
    return 1000 * (time.perf_counter() - began)


def paths(dataset: Dataset) -> dict[str, str]:
    """Addresses with what they are."""
    rows: Sequence[int] = (17, dataset.num_rows // 2, int(dataset.num_rows * 0.9))
    found = {
        f"/similar/{quote(viewer_benchmark.image_id(row), safe='')}?": f"more like image {row:,}"
        for row in rows
    }
    found |= {
        f"/similar/{region_page(dataset)}": "more like a region",
        "/duplicates?": "near-duplicates",
        "/duplicates?page=150": "near-duplicates, page 150",
        "/map?": "map",
        "/map/points?": "points of the map",
        "/map/points?tag=tag%200000": "points of the map, one tag",
        "/map/nearest?x=500&y=500": "image nearest to a point",
        "/?lasso=200.200-800.800": "rectangle",
        f"/?lasso={circle(380)}": "lasso around most, 100 corners",
        f"/?lasso={circle(40)}": "lasso around few, 100 corners",
        f"/?lasso={circle(380)}&tag=tag%200000&sort=score": "lasso, tag, sorted by score",
    }
    return found


def region_page(dataset: Dataset) -> str:
    """The last part of the address of the first image of the last shard that has a region."""
    *_, (_, table) = by_shard(dataset)
    counts = pa.compute.list_value_length(table["labels"]).to_numpy()
    name = table["image_id"][int(np.argmax(counts > 0))].as_py()
    return f"{quote(name, safe='')}?region=0"


def circle(radius: int) -> str:
    """A lasso of 100 corners around the middle."""
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    corners = (500 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(int)
    return "-".join(f"{x}.{y}" for x, y in corners)


if __name__ == "__main__":
    main()
