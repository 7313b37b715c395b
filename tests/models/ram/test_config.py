"""The lists of tags and thresholds that a RAM checkpoint needs beside it."""

from __future__ import annotations

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.models.ram.config import read_tags, read_thresholds


def test_lists_are_read_line_by_line(tmp_path):
    tags, thresholds = tmp_path / "tags.txt", tmp_path / "thresholds.txt"
    tags.write_bytes("﻿traffic light \r\ncafé\r\n\r\n".encode())
    thresholds.write_text("0.68\n1.0\n")
    assert read_tags(tags) == ("traffic light", "café")
    assert read_thresholds(thresholds) == (0.68, 1.0)
    tags.write_text("cow\n\nsheep\n")
    with pytest.raises(UserError, match="line 2"):
        read_tags(tags)
    for wrong in ("0.5\nhalf\n", "0.5\n1.5\n", "0.5\nnan\n"):
        thresholds.write_text(wrong)
        with pytest.raises(UserError, match="line 2"):
            read_thresholds(thresholds)
    with pytest.raises(UserError, match=r"none\.txt"):
        read_tags(tmp_path / "none.txt")
    tags.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_tags(tags)
