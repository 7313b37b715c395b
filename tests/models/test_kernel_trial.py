"""A kernel is tried once, and one line says why it is not used."""

from __future__ import annotations

import pytest
import torch

from pad_pipeline.models import kernel_trial
from pad_pipeline.models.kernel_trial import kernel_works, try_kernel


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_trial, "_works", {})


def test_a_kernel_that_works_is_tried_once_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trials = []
    for _ in range(2):
        assert try_kernel("a", lambda: trials.append(1) is None, without="It runs without it")
    assert len(trials) == 1
    assert kernel_works("a")
    assert not kernel_works("b")
    assert caplog.text == ""


def test_one_line_says_why_a_kernel_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> bool:
        raise RuntimeError("ptxas is not there\nand more")

    for _ in range(2):
        assert not try_kernel("a", fail, without="It runs without its kernel")
    assert not try_kernel("b", lambda: False, without="It runs without its kernel")
    assert [record.getMessage() for record in caplog.records] == [
        "It runs without its kernel, which makes it slower: ptxas is not there (the usual cause is "
        "a missing C compiler or missing Python headers)",
        "It runs without its kernel, which makes it slower: their results differ from torch's on "
        "this GPU",
    ]


def test_a_gpu_without_memory_says_nothing_of_the_kernel() -> None:
    def fail() -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        try_kernel("a", fail, without="It runs without its kernel")
    assert try_kernel("a", lambda: True, without="It runs without its kernel")
