"""The figures of a data set against figures counted by hand and by NumPy."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from pad_pipeline.dataset.selection import Selection
from pad_pipeline.dataset.stats import (
    AREA_FRACTION_EDGES,
    MANY_REGIONS,
    NUM_TOP_TAGS,
    SCORE_EDGES,
    compute_stats,
    to_dict,
    to_text,
)
from pad_pipeline.dataset.stats_plot import plot
from pad_pipeline.records import Tag
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    ellipse,
    example_records,
    record,
    region,
    write_dataset,
)


def test_a_tag_of_several_origins_counts_once(tmp_path):
    phrases = (Tag("apple", 0.7), Tag("apple", 1.0, "captions", 0, 2, 7), Tag("sky", 0.6))
    stats = compute_stats(write_dataset(tmp_path / "set", [record(0, tags=phrases)]))
    assert (stats.num_tags_given, stats.num_tags_without_region) == (2, 2)
    assert stats.top_tags_without_region == (("apple", 1), ("sky", 1))


def test_counts_of_the_example(tmp_path):
    stats = compute_stats(write_dataset(tmp_path / "set", example_records()))
    assert stats.state == "finished"
    assert stats.num_images == 7
    assert stats.images_by_status == {"ok": 4, "empty": 2, "failed": 1}
    assert stats.num_regions == 6
    assert stats.mean_regions == 1.0
    assert stats.regions_per_image[:4] == (2, 2, 2, 0)
    assert stats.top_tags == (("apple", 2), ("tree", 2), ("sail boat", 1), ("çay — bardağı", 1))
    assert stats.num_region_tags == 4
    assert (stats.num_image_tags, stats.num_tags_given) == (5, 6)
    assert stats.num_tags_without_region == 1
    assert stats.top_tags_without_region == (("cloud", 1),)
    assert stats.failures == {"decode: ImageError": 1}


def test_histograms_equal_numpys(tmp_path):
    random = np.random.default_rng(0)
    records, areas, scores, qualities = [], [], [], []
    for number in range(40):
        labels = []
        for _ in range(int(random.integers(0, 30))):
            mask = ellipse(20, 15, *random.uniform(0.6, 19, 2))
            score, quality = random.choice(1000, 2) / 1000
            labels.append(region("a", mask, score, quality))
            areas.append(mask.sum() / (WIDTH * HEIGHT))
            scores.append(np.float32(score))
            qualities.append(np.float32(quality))
        records.append(record(number, labels))
    stats = compute_stats(write_dataset(tmp_path / "set", records, rows_per_shard=7))
    edges = np.array(SCORE_EDGES, dtype=np.float32)
    assert stats.area_share.counts == tuple(np.histogram(areas, AREA_FRACTION_EDGES)[0])
    assert stats.score.counts == tuple(np.histogram(scores, edges)[0])
    assert stats.predicted_iou.counts == tuple(np.histogram(qualities, edges)[0])
    per_image = [min(len(one.labels), MANY_REGIONS) for one in records]
    assert stats.regions_per_image == tuple(np.bincount(per_image, minlength=MANY_REGIONS + 1))


def test_values_out_of_range_fall_into_the_outer_bins(tmp_path):
    labels = [region("a", ellipse(20, 15, 5, 5), 1.0, value) for value in (-0.1, 1.02, 1.0)]
    stats = compute_stats(write_dataset(tmp_path / "set", [record(0, labels)]))
    assert stats.predicted_iou.counts[0] == 1
    assert stats.predicted_iou.counts[-1] == 2
    assert stats.score.counts[-1] == 3


def test_a_selection_is_counted(tmp_path):
    url = write_dataset(tmp_path / "set", example_records())
    stats = compute_stats(url, Selection(tags=("apple",)))
    assert (stats.num_regions, stats.num_region_tags) == (2, 1)
    assert stats.images_by_status == {"ok": 2, "empty": 4, "failed": 1}


def test_the_top_tags_are_bounded(tmp_path):
    tags = tuple(Tag(f"tag {number:03d}", 0.5) for number in range(200))
    stats = compute_stats(write_dataset(tmp_path / "set", [record(0, tags=tags)]))
    assert stats.num_image_tags == 200
    assert len(stats.top_tags_without_region) == NUM_TOP_TAGS
    assert stats.top_tags_without_region[0] == ("tag 000", 1)


def test_the_text_and_the_json_say_the_same(tmp_path):
    stats = compute_stats(write_dataset(tmp_path / "set", example_records()))
    text = to_text(stats)
    for part in ("images   7  (4 ok, 2 empty, 1 failed)", "regions  6", "16.7% of 6 given tags"):
        assert part in text
    assert "çay — bardağı" in text
    assert "  2 (33.3%)" in next(line for line in text.splitlines() if "apple" in line)
    assert max(map(len, text.splitlines()[1:])) <= 80
    loaded = json.loads(json.dumps(to_dict(stats)))
    assert loaded["num_regions"] == 6
    assert loaded["score"]["edges"] == list(SCORE_EDGES)
    assert sum(loaded["score"]["counts"]) == 6


def test_the_plot_is_a_full_hd_picture(tmp_path):
    odd = [region(tag, ellipse(20, 15, 5, 5)) for tag in ("$x$ \\frac", "a" * 80, "_")]
    for name, records in (("some", [*example_records(), record(7, odd)]), ("none", [])):
        stats = compute_stats(write_dataset(tmp_path / name, records))
        path = tmp_path / f"{name}.png"
        plot(stats, str(path))
        with Image.open(path) as picture:
            assert picture.size == (1920, 1080)
            assert len(picture.convert("RGB").resize((192, 108)).getcolors(99999) or []) > 50


def test_a_data_set_without_images_has_figures_too(tmp_path):
    stats = compute_stats(write_dataset(tmp_path / "set", []))
    assert (stats.num_images, stats.num_regions, stats.mean_regions) == (0, 0, 0.0)
    assert "images   0" in to_text(stats)
