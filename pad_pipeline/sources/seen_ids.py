"""A set of ids in a few bytes each, for lists that name an image many times."""

from __future__ import annotations

import hashlib
from array import array


class SeenIds:
    """Which ids were added, by 64 bits of their BLAKE2 hash: some 16 bytes for each.

    Two different ids of a million have the same hash with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 << 10))
        self._number = 0

    def add(self, text: str) -> bool:
        """Whether `text` is new; it is in the set afterwards."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(digest, "big") or 1
        if not self._insert(key):
            return False
        self._number += 1
        if self._number * 3 > len(self._table) * 2:
            keys, self._table = self._table, array("Q", bytes(len(self._table) << 4))
            for old in keys:
                if old:
                    self._insert(old)
        return True

    def _insert(self, key: int) -> bool:
        table, mask = self._table, len(self._table) - 1
        at = key & mask
        while table[at]:
            if table[at] == key:
                return False
            at = (at + 1) & mask
        table[at] = key
        return True
