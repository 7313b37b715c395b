"""What depends on an image's size or on a word alone, kept on the device from pass to pass."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept(Generic[Value]):
    """A value, the size of its tensors, and the CUDA stream that made it (None: no stream)."""

    value: Value
    num_bytes: int
    stream: torch.cuda.Stream | None


class Constants(Generic[Value]):
    """Values by key: tensors, or dataclasses and tuples of tensors, of at most `max_bytes`.

    What was not used for longest goes first; a value larger than `max_bytes` is not kept. Threads
    may share one, each with a CUDA stream of its own: a value is handed out when the stream that
    made it is done with it, and its memory is not given to others while a stream still reads it.
    A value must follow from its key alone, bit for bit: what is kept and what is made anew would
    differ otherwise, and so would the results of a run that goes on where another one stopped.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._kept: OrderedDict[Hashable, _Kept[Value]] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made where there is none yet."""
        return self.get_all([key], lambda _: [make()])[0]

    def get_all(
        self, keys: Sequence[Hashable], make: Callable[[list[Any]], Sequence[Value]]
    ) -> list[Value]:
        """The value of each key; `make` gives those of the keys that have none, in their order."""
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            missing = [key for key in dict.fromkeys(keys) if key not in found]
            if missing:
                made = [_keep(value) for value in make(missing)]
                for stream in {kept.stream for kept in made if kept.stream is not None}:
                    stream.synchronize()
                found |= zip(missing, made, strict=True)
            for key, kept in found.items():
                if key not in self._kept and kept.num_bytes <= self.max_bytes:
                    self._kept[key] = kept
                    self.num_bytes += kept.num_bytes
                if key in self._kept:
                    self._kept.move_to_end(key)
            while self.num_bytes > self.max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self.num_bytes -= dropped.num_bytes
        return [_use(found[key]) for key in keys]


def _keep(value: Value) -> _Kept[Value]:
    tensors = list(_tensors(value))
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    stream = torch.cuda.current_stream(devices.pop()) if devices else None
    return _Kept(value, sum(tensor.nbytes for tensor in tensors), stream)


def _use(kept: _Kept[Value]) -> Value:
    """The value, its memory guarded until the current stream has read it."""
    if kept.stream is not None:
        current = torch.cuda.current_stream(kept.stream.device)
        if current != kept.stream:
            for tensor in _tensors(kept.value):
                tensor.record_stream(current)
    return kept.value


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in a value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
