"""The viewer's pages of objects, histograms, comparisons and a ground truth, at the paper's size.

`python benchmarks/viewer_truth.py` writes the data set of `viewer.py` and COCO's instances for its
first images: boxes moved a little, left out, renamed and added. Matching them is timed in a process
of its own; then every page is asked for several times, as `viewer.py` does it. The comparison is
with the truth as a COCO file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import common
import numpy as np
import psutil
from viewer import GOAL_MS, NUM_ROWS, REPEATS, ask, peak_memory_mb, write_data

from pad_pipeline.dataset.reader import iter_records, open_dataset

NUM_TRUE_IMAGES = 20_000


def main() -> None:
    """Write the data set and its truth, measure, write and print."""
    parser = common.make_parser(__doc__, "viewer_truth")
    parser.add_argument("--num-rows", type=int, default=NUM_ROWS)
    parser.add_argument("--num-true-images", type=int, default=NUM_TRUE_IMAGES)
    parser.add_argument("--folder", type=Path, help="where a data set of an earlier run lies")
    arguments = parser.parse_args()
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        data, truth = folder / "annotations", folder / f"truth-{arguments.num_true_images}.json"
        if not data.exists():
            write_data(data, arguments.num_rows)
        if not truth.exists():
            write_truth(data, truth, arguments.num_true_images)
        result = measure(data, truth, folder / "cache")
    common.write_result(arguments.output, machine, {"num_rows": arguments.num_rows, **result})


def measure(data: Path, truth: Path, cache: Path) -> dict[str, Any]:
    """Matching's time and memory, then the pages' times."""
    environment = {**os.environ, "PAD_CACHE": str(cache)}
    matching = match(data, truth, environment)
    common.say(f"matched in {matching['seconds']} s")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "pad_pipeline", "view", str(data), "--port", "0"),
            *("--ground-truth", str(truth)),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        began = time.perf_counter()
        address = next(line for line in server.stdout if "http://" in line).split()[2]
        start_s = time.perf_counter() - began
        port, process = int(address.rpartition(":")[2]), psutil.Process(server.pid)
        other = f"/compare?other={quote(str(truth))}"
        began = time.perf_counter()
        ask(port, f"{other}&show=all", process, repeats=1)
        first_comparison_s = time.perf_counter() - began
        pages = {name: ask(port, path, process) for name, path in paths(other).items()}
        peak_mb = peak_memory_mb(server.pid)
    finally:
        server.terminate()
        server.wait(20)
    slowest = max(pages.values(), key=lambda page: page["p50_ms"])
    return {
        "what": "objects, histograms, comparison and ground truth on synthetic records; no images",
        "goal": {"page_ms": GOAL_MS},
        "matching": matching,
        "start_with_indexes_s": round(start_s, 2),
        "first_comparison_s": round(first_comparison_s, 1),
        "server_peak_memory_mb": round(peak_mb),
        "slowest_p50_ms": slowest["p50_ms"],
        "most_cpu_ms": max(page["cpu_ms"] for page in pages.values()),
        "pages_over_goal": [name for name, page in pages.items() if page["p50_ms"] > GOAL_MS],
        "repeats": REPEATS,
        "pages": pages,
    }


def paths(other: str) -> dict[str, str]:
    """The pages to ask for."""
    found = {
        "objects": "/crops",
        "objects, middle page": "/crops?page=19000",
        "objects by area, middle page": "/crops?sort=area&page=19000",
        "objects of a frequent tag": "/crops?tag=tag%200000",
        "objects of a score, by predicted IoU": "/crops?min_score=0.5&sort=iou&page=3000",
        "histograms": "/histograms",
        "histograms of a tag": "/histograms?tag=tag%200000",
        "histograms of a range": "/histograms?min_score=0.4&max_score=0.6",
        "histograms of words": "/histograms?q=red%20dog&min_share=0.01",
        "images of a range": "/?min_score=0.4&max_score=0.6&min_share=0.01&max_share=0.1",
        "comparison": f"{other}&show=all",
        "comparison, page 1,000 at IoU .9": f"{other}&show=all&iou=0.9&page=1000",
        "truth": "/truth?",
        "truth, IoU .75, last page of tags": "/truth?iou=0.75&sort=AP&page=70",
    }
    for show in ("errors", "missed", "false", "wrong", "found"):
        found[f"images of {show}"] = f"/truth/images?show={show}"
        found[f"images of {show}, page 1,000"] = f"/truth/images?show={show}&page=1000"
    tag = "tag=tag%200000"
    found["images of a tag"] = f"/truth/images?{tag}"
    found["one confusion"] = f"/truth/images?show=wrong&{tag}&named=tag%200001"
    found["image"] = f"/truth/image/{quote('00012/000012345.jpg', safe='')}?"
    return found


def match(data: Path, truth: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Seconds, bytes and peak memory of the comparison in a process of its own."""
    code = (
        "import resource, sys; from pad_pipeline.view.index import build, scan; "
        "from pad_pipeline.view.truth.build import TruthSource, build_truth; "
        "contents = scan(sys.argv[1]); build(contents); "
        "import time; began = time.perf_counter(); "
        "path = build_truth(contents, TruthSource(sys.argv[2])); "
        "usage = resource.getrusage(resource.RUSAGE_SELF); "
        "print(time.perf_counter() - began, usage.ru_utime, path.stat().st_size, usage.ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(data), str(truth)],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds, cpu_s, size, peak_kib = map(float, done.stdout.split())
    whole = json.loads(truth.read_text())
    return {
        "num_images": len(whole["images"]),
        "num_objects": len(whole["annotations"]),
        "seconds": round(seconds, 1),
        "process_cpu_s": round(cpu_s, 1),
        "size_mb": round(size / 1e6, 1),
        "peak_memory_mb": round(peak_kib * 1024 / 1e6),
    }


def write_truth(data: Path, path: Path, number: int) -> None:
    """COCO's instances of the first images."""
    make = np.random.default_rng(1)
    images, annotations = [], []
    numbers: dict[str, int] = {}
    records = iter_records(open_dataset(str(data)), masks=False)
    for image, record in enumerate(islice(records, number), 1):
        size = {"width": max(record.width, 1), "height": max(record.height, 1)}
        images.append({"id": image, "file_name": record.image_id, **size})
        for region in record.labels:
            if make.random() < 0.15:
                continue
            tag = region.tag if make.random() < 0.9 else f"tag {make.integers(40):04d}"
            x0, y0, x1, y1 = np.asarray(region.bbox) + make.normal(0, 4, 4)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": numbers.setdefault(tag, len(numbers) + 1),
                    "bbox": [x0, y0, max(x1 - x0, 1.0), max(y1 - y0, 1.0)],
                }
            )
    categories = [{"id": n, "name": name} for name, n in numbers.items()]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(whole))


if __name__ == "__main__":
    main()
