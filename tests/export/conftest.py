"""A small data set to export."""

from __future__ import annotations

import pytest

from tests.dataset.example import (
    example_records,
    write_dataset,
)


@pytest.fixture
def url(tmp_path):
    return write_dataset(tmp_path / "set", example_records())
