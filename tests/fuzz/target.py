"""What is fuzzed: inputs by their number, and how each must end."""

from __future__ import annotations

import abc
import random
from typing import ClassVar

MIB = 2**20


class Target(abc.ABC):
    """Something that takes bytes from strangers. Made in a child process, where it may do its worst."""

    name: ClassVar[str]
    share: ClassVar[float]
    """Of all inputs of a run"""
    may_grow_bytes: ClassVar[int] = 128 * MIB
    """Memory that one input may take while it is worked on"""
    may_take_s: ClassVar[float] = 5.0
    """Of processor time"""
    may_print: ClassVar[bool] = False
    """Whether something on stderr is no finding"""

    def input(self, seed: int, index: int) -> bytes:
        """The same for the same numbers, whatever came before."""
        return self.make(random.Random(f"{self.name}/{seed}/{index}"))

    @abc.abstractmethod
    def make(self, rng: random.Random) -> bytes: ...

    @abc.abstractmethod
    def accepts(self, data: bytes) -> bool:
        """Whether the input was taken; False where it was refused as documented. Raises: what is a fault."""

    def close(self) -> None:
        """Free what the target holds."""
        return
