"""What is kept from pass to pass is made once, bounded in bytes and safe for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import torch

from pad_pipeline.models.constants import Constants


def kilobyte(key: int) -> tuple[torch.Tensor, None]:
    return torch.full((256,), float(key)), None


def test_a_value_is_made_once_and_the_oldest_goes_first() -> None:
    made = []

    def get(key: int) -> None:
        value, _ = kept.get(key, lambda: (made.append(key), kilobyte(key))[1])
        assert (value == key).all()

    kept: Constants = Constants(max_bytes=3 * 1024)
    for key in (1, 2, 3, 1, 4, 1, 3):
        get(key)
    assert made == [1, 2, 3, 4]  # 2 was not used for longest
    assert kept.num_bytes == 3 * 1024
    get(2)
    assert made[-1] == 2


def test_what_is_too_large_is_made_each_time_and_drives_nothing_out() -> None:
    kept: Constants = Constants(max_bytes=1024)
    kept.get("small", lambda: kilobyte(1))
    large = [kept.get("large", lambda: torch.zeros(257)) for _ in range(2)]
    assert large[0] is not large[1]
    assert kept.get("small", lambda: None) is not None


def test_many_keys_are_made_together_each_once() -> None:
    asked = []

    def make(keys: Sequence[int]) -> list[tuple[torch.Tensor, None]]:
        asked.append(list(keys))
        return [kilobyte(key) for key in keys]

    kept: Constants = Constants(max_bytes=2**20)
    kept.get_all([2], make)
    values = kept.get_all([3, 2, 3, 1], make)
    assert asked == [[2], [3, 1]]
    assert [int(value[0]) for value, _ in values] == [3, 2, 3, 1]


def test_threads_share_what_one_of_them_makes() -> None:
    made, found = [], []

    def make() -> torch.Tensor:
        made.append(threading.get_ident())
        time.sleep(0.05)
        return torch.zeros(1)

    kept: Constants = Constants(max_bytes=1024)
    threads = [
        threading.Thread(target=lambda: found.append(kept.get("key", make))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(value is found[0] for value in found)
