"""Nothing is drawn here, so warnings are no errors as they are for the figures."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> None:
    """In the place of that of the figures."""
