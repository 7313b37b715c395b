"""The metrics of a worker for Ray's Prometheus endpoint, by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from ray.util import metrics

from pad_pipeline.engine.metrics import StageTiming

_LATENCY_BUCKETS_S = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]


class PrometheusMetrics:
    """The counters of one worker."""

    def __init__(self, stage: str) -> None:
        self._tags = {"stage": stage}
        self._images = _metric(metrics.Counter, "pad_images", "Images that passed a stage.")
        self._failed = _metric(metrics.Counter, "pad_failures", "Images that failed in a stage.")
        self._passes = _metric(metrics.Counter, "pad_passes", "Passes of a stage's model.")
        self._busy = _metric(
            metrics.Counter, "pad_busy_seconds", "Time of the workers, by what it went into."
        )
        self._share = _metric(
            metrics.Gauge, "pad_busy_share", "Share of its time that a worker computes (0-1)."
        )
        self._latency = metrics.Histogram(
            "pad_batch_seconds",
            description="Time of a chunk of images in a stage.",
            boundaries=_LATENCY_BUCKETS_S,
            tag_keys=("stage",),
        )
        self._last_s = time.perf_counter()
        self._lock = threading.Lock()

    def add(self, timing: StageTiming, seconds: Mapping[str, float]) -> None:
        """Count one chunk."""
        # counters refuse zero
        if timing.images:
            self._images.inc(timing.images, self._tags)
        if timing.failed:
            self._failed.inc(timing.failed, self._tags)
        for name, count in timing.passes.items():
            if count.passes:
                self._passes.inc(count.passes, {"stage": name})
        for name, value in seconds.items():
            if value > 0:
                self._busy.inc(value, {"stage": name})
        with self._lock:
            now_s = time.perf_counter()
            busy_s = timing.seconds if timing.busy_s is None else timing.busy_s
            share = min(busy_s / max(now_s - self._last_s, 1e-9), 1.0)
            self._last_s = now_s
        self._share.set(share, self._tags)
        self._latency.observe(timing.seconds, self._tags)


def _metric(kind: Any, name: str, description: str) -> Any:
    return kind(name, description=description, tag_keys=("stage",))
