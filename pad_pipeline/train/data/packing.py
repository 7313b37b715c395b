"""Which samples of a step stand one behind another in one sequence."""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """The indices of `lengths` in packs of at most `capacity` tokens each; every index once.

    First fit, from the longest to the shortest: at most 11/9 of the fewest packs and one more
    (Johnson 1973). A function of its arguments alone. Indices ascend within a pack, and packs by
    their first index. A sample longer than `capacity` is an error of the caller.
    """
    assert all(length <= capacity for length in lengths), (max(lengths), capacity)
    packs: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        place = next((place for place, left in enumerate(room) if left >= length), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(capacity)
        packs[place].append(index)
        room[place] -= length
    return sorted(sorted(each) for each in packs)
