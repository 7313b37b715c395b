"""Which images a run is measured on where marks count."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.evaluate.held_out import choose_samples
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from pad_pipeline.train.run.folder import open_run
from tests.train.scenes import write_annotations
from tests.train.test_loop import PRETRAIN

CHOICE = ReviewChoice(without_rejected=True)


def test_a_run_by_marks_is_measured_by_the_same_marks_on_what_it_held_out(tmp_path: Path) -> None:
    data = str(write_annotations(tmp_path, 24))
    first, second, *_ = iter_records(open_dataset(data))
    log = ReviewLog(f"{data}/_review.jsonl")
    log.write(new_event("verdict", "anna", image=first.image_id, value="rejected"))
    digest = region_digest(second.labels[0])
    log.write(
        new_event("tag", "anna", image=second.image_id, region=0, digest=digest, value="new name")
    )
    config = dataclasses.replace(PRETRAIN, num_validation=5)
    run = open_run(str(tmp_path / "run"), "pretrain", config, data, None, None, review=CHOICE)

    def choose(review: ReviewChoice | None, *, held_out: bool = True):
        path = tmp_path / "samples.arrow"
        return choose_samples(run, data, None, 30, path, held_out=held_out, review=review)

    found = choose(CHOICE)
    assert found.held_out is True
    assert len(found.samples) == 23
    plain = choose(None)
    assert plain.held_out is None
    assert "the data set or its marks are not as they were" in plain.seen
    assert len(plain.samples) == 24
    first_left = choose(CHOICE, held_out=False).samples[0]
    assert first_left.id == second.image_id
    assert first_left.tags[0] == "new name"
