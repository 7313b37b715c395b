"""What a type checker must see behind the front door; `test_front_door` has pyright read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import (
    AnnotateConfig,
    Annotator,
    PadRecord,
    Region,
    Tag,
    UserError,
    __version__,
    annotate,
    decode_mask,
    demo,
    fast,
    iter_records,
    open_dataset,
    paper,
)
from pad_pipeline.annotate.report import RunReport

version: str = __version__
assert_type(paper(), AnnotateConfig)
assert_type(demo(), AnnotateConfig)
assert_type(fast(), AnnotateConfig)


def use(config: AnnotateConfig, error: UserError) -> RunReport:
    assert_type(Annotator(config).annotate(["a.png"]), list[PadRecord])
    assert_type(iter_records(open_dataset("out")), Iterator[PadRecord])
    for record in iter_records(open_dataset("out")):
        assert_type(record.labels, tuple[Region, ...])
        assert_type(record.tags, tuple[Tag, ...])
        assert_type(decode_mask(record.labels[0].rle_mask, 9, 9), NDArray[np.bool_])
    assert_type(str(error), str)
    report = annotate("images", "out", config)
    assert_type(report, RunReport)
    return report
