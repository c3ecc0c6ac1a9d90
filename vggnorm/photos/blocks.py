"""Blocks: the runs of photos into which a list is cut, and the parts of a list made of them.

The last bits of what a network says of a photo depend on its place in the batch. So that each photo
stands in the same place of the same batch, whoever measures it, the seeded order is cut into blocks
of a fixed number of photos, and no batch holds photos of two blocks. A part of a list is made of
whole blocks, and has the batches that a run over the whole list has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

# A block is as many photos as this many full batches hold. Where photos are skipped, it has less
# than that to give, and its last batch is short.
BATCHES_PER_BLOCK = 8

BATCH_SIZE = 32  # photos, unless the user says otherwise


def block_size(batch_size: int) -> int:
    """Give the number of photos in a block, for a number of photos in a batch."""
    return BATCHES_PER_BLOCK * batch_size


def cut_into_blocks(total: int, size: int, start: int = 0) -> Iterator[range]:
    """Cut a list into blocks, and give the positions of the photos of each.

    Args:
        total: the number of photos in the list.
        size: the number of photos in a block. The last block may have fewer.
        start: the first position that is wanted. If it is inside a block, the first range is the
            rest of that block.
    """
    while start < total:
        end = min(start - start % size + size, total)
        yield range(start, end)
        start = end


@dataclass(frozen=True)
class Part:
    """One of several parts of a list: every `count`-th block, from the block `number` on.

    All its blocks are full ones, except that the list's last block may be its last. So the part
    itself, as a list, has the same blocks.

    Attributes:
        number: which part it is, counted from 1.
        count: how many parts there are.
        block: the number of photos in a block.
    """

    number: int
    count: int
    block: int

    def blocks(self, total: int) -> Iterator[range]:
        """Give the positions of its photos in the whole list, block by block.

        Args:
            total: the number of photos in the whole list.
        """
        start, step = (self.number - 1) * self.block, self.count * self.block
        for first in range(start, total, step):
            yield range(first, min(first + self.block, total))

    def size(self, total: int) -> int:
        """Give the number of its photos among the first `total` of the whole list."""
        rounds, rest = divmod(total, self.count * self.block)
        in_last_round = rest - (self.number - 1) * self.block
        return rounds * self.block + min(max(in_last_round, 0), self.block)
