"""A cache of values that are bounded by their bytes, not by their number."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

_Value = TypeVar("_Value")


class ByteCache:
    """The values that were used last, up to a number of bytes; usable from any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._num_bytes = 0

    def get(
        self, key: Hashable, make: Callable[[], _Value], size: Callable[[_Value], int]
    ) -> _Value:
        """The value of a key, made where it is not kept; `size` gives its bytes."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return cast(_Value, self._kept[key][0])
        value = make()
        self.put(key, value, size(value))
        return value

    def put(self, key: Hashable, value: object, num_bytes: int) -> None:
        """Keep a value, and drop those that were not used for longest."""
        with self._lock:
            if key in self._kept or num_bytes > self._max_bytes:
                return
            self._kept[key] = (value, num_bytes)
            self._num_bytes += num_bytes
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= self._kept.popitem(last=False)[1][1]
