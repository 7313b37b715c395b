"""Chunks in flight: lanes that share a model, the time of each, results that stay the same."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest

from pad_pipeline.annotate.annotator import to_sample
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import demo
from pad_pipeline.engine.lanes import Lanes, open_lanes
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.engine.stages import Seconds, Stage, tag_stage
from pad_pipeline.engine.turns import Turns
from pad_pipeline.records import PadRecord
from pad_pipeline.scenes.generator import generate_scene
from tests import fakes
from tests.engine.test_stages import samples


def follow(seconds: Seconds):
    return lambda *work: None


def test_lanes_share_their_models_and_count_for_themselves() -> None:
    made: list[Chain] = []

    def make(seconds: Seconds) -> Chain:
        made.append(fakes.build_all(seconds))
        return made[-1]

    lanes = open_lanes(make, 3, follow)
    assert len(made) == 1
    chains = [lane.stage for lane in lanes]
    assert len({id(stage) for chain in chains for stage in chain.stages}) == 12  # type: ignore
    assert len({id(chain.stages[0].work) for chain in chains}) == 1  # type: ignore
    lanes[1].stage(samples(255, 0))
    assert [set(lane.seconds) for lane in lanes] == [
        set(),
        {"decode", "tag", "detect", "suppress", "segment"},
        set(),
    ]
    counts = chains[1].take_passes()  # type: ignore
    assert {name: (count.passes, count.images) for name, count in counts.items()} == {
        "tag": (1, 2),
        "detect": (1, 1),
        "segment": (1, 1),
    }
    assert chains[1].take_passes()["tag"].passes == 0  # type: ignore
    assert chains[0].take_passes()["tag"].passes == 0  # type: ignore


def test_a_stage_without_twins_has_one_lane() -> None:
    def make(seconds: Seconds) -> Stage:
        return lambda samples: samples

    assert len(open_lanes(make, 1, follow)) == 1
    with pytest.raises(TypeError, match="one chunk at a time"):
        open_lanes(make, 2, follow)


def test_the_time_of_a_worker_is_shared_by_the_chunks_that_it_has_in_hand() -> None:
    now = [10.0]
    lanes = Lanes(open_lanes(fakes.build_all, 2, follow), clock=lambda: now[0])
    with lanes.take() as first:
        now[0] = 12.0
        with lanes.take() as second:
            now[0] = 16.0
        now[0] = 17.0
    assert (first.busy_s, second.busy_s) == (2.0 + 2.0 + 1.0, 2.0)
    now[0] = 50.0
    with lanes.take() as third:
        now[0] = 51.0
    assert third.busy_s == 1.0


def test_a_chunk_waits_for_a_lane_and_finds_its_clock_at_nothing() -> None:
    lanes = Lanes(open_lanes(fakes.build_all, 1, follow))
    taken = threading.Event()

    def use() -> bool:
        with lanes.take() as other:
            taken.set()
            return not other.lane.seconds

    with ThreadPoolExecutor(1) as threads:
        with lanes.take() as first:
            first.lane.seconds["tag"] = 1.0
            waiting = threads.submit(use)
            assert not taken.wait(0.1)
        assert waiting.result(10)


def test_two_chunks_in_flight_have_the_results_of_one() -> None:
    """Fake models, many chunks: who is given a lane when does not show."""
    chunks = [[shade, 255, (7 * shade) % 256] for shade in range(0, 250, 10)]

    def annotate(number: int) -> list:
        lanes = Lanes(open_lanes(fakes.build_all, number, follow))

        def run(shades: list[int]) -> list:
            chunk: list[Sample] = samples(*shades)
            with lanes.take() as use:
                return [to_record(sample) for sample in use.lane.stage(chunk)]

        with ThreadPoolExecutor(number) as threads:
            return list(threads.map(run, chunks))

    assert annotate(2) == annotate(1)


def test_a_chunk_is_decoded_while_another_is_on_the_device() -> None:
    """The device holds the first chunk until the next has been decoded."""
    decoded = threading.Event()

    class Device(fakes.FakeTagger):
        waited: ClassVar[list[bool]] = []

        def tag(self, images):
            if images[0].mean() == 10:
                self.waited.append(decoded.wait(10))
            else:
                decoded.set()
            return super().tag(images)

    def build(seconds: Seconds) -> Chain:
        return Chain([tag_stage(Device(), **fakes.options(seconds))])

    lanes = Lanes(open_lanes(build, 2, follow))

    def run(shade: int) -> list[Sample]:
        with lanes.take() as use:
            return use.lane.stage(samples(shade))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, (10, 20)))
    assert Device.waited == [True]


def test_memory_that_two_chunks_run_out_of_together_is_given_to_each_alone() -> None:
    """Their batches stay whole, as with one chunk in flight."""

    class Small(fakes.FakeTagger):
        inside, full = 0, threading.Barrier(2)
        lock = threading.Lock()
        first: ClassVar[set[float]] = set()

        def tag(self, images):
            shade = images[0].mean()
            with self.lock:
                self.calls.append(len(images))
                is_first = shade not in self.first
                self.first.add(shade)
                Small.inside += 1
            try:
                if is_first:
                    self.full.wait(10)
                    raise MemoryError
                assert Small.inside == 1
                return super().tag(images)
            finally:
                with self.lock:
                    Small.inside -= 1

    tagger, freed, turns = Small(), [], Turns()

    def build(seconds: Seconds) -> Chain:
        options = {**fakes.options(seconds), "free_memory": lambda: freed.append(True)}
        return Chain([tag_stage(tagger, turns=turns, **options)])

    lanes = Lanes(open_lanes(build, 2, follow))

    def run(shade: int) -> list[Sample]:
        with lanes.take() as use:
            return use.lane.stage(samples(shade, shade, shade))

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(run, (100, 200)))
    assert all(sample.tags and sample.error is None for chunk in done for sample in chunk)
    assert set(tagger.calls) == {3}
    assert freed == [True, True]


def test_a_batch_that_does_not_fit_alone_is_halved() -> None:
    tagger = fakes.FakeTagger(most_at_once=2)
    stage = tag_stage(tagger, turns=Turns(), **fakes.options({}))
    assert all(sample.tags for sample in stage(samples(255, 255, 255, 255)))
    assert tagger.calls == [4, 4, 2, 2]


def test_the_embedded_models_say_the_same_in_two_threads() -> None:
    """Twice each, by turns: what the models keep from call to call belongs to no thread."""
    config = replace(demo(), device="cpu", dtype="float32", threads=1)
    lanes = Lanes(open_lanes(partial(build_chain, config), 2, follow))

    def run(seed: int) -> list[PadRecord]:
        images = [generate_scene(seed + index).image for index in range(2)]
        chunk = [to_sample(index, image) for index, image in enumerate(images)]
        with lanes.take() as use:
            return [to_record(sample) for sample in use.lane.stage(chunk)]

    alone = [run(seed) for seed in (0, 2)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(run, [0, 2, 0, 2]))
    assert together == alone * 2
    assert all(record.status == "ok" for records in alone for record in records)
