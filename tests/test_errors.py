"""Messages for users: settings in them, and their way through a process."""

from __future__ import annotations

import pickle

from pad_pipeline.errors import Setting, UserError, first_line


def test_a_setting_reads_as_python_writes_it() -> None:
    assert str(Setting("chunk_size")) == "chunk_size"
    assert str(Setting("chunk_size", 48)) == "chunk_size=48"
    assert str(Setting("device", "cpu")) == "device='cpu'"
    assert str(Setting("fused.max_workers", None)) == "fused.max_workers=None"


def test_a_message_is_its_parts_joined_and_survives_pickling() -> None:
    error = UserError(Setting("min_area", 5), " is above ", Setting("max_area"), "; swap them")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert str(each) == "min_area=5 is above max_area; swap them"
        assert each.spell(lambda setting: f"<{setting.name}>") == (
            "<min_area> is above <max_area>; swap them"
        )
    assert str(UserError("one text")) == "one text"


def test_the_first_line_of_a_silent_error_is_its_type() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(UserError(Setting("seed"), " is odd")) == "seed is odd"
