"""Figures must be drawn without a warning."""

from __future__ import annotations

import warnings

import pytest


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph only warns
        yield
