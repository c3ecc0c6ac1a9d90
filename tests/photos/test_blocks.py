"""Blocks and parts by hand: which positions they have, and how many."""

import pytest

from vggnorm.photos.blocks import Part, block_size, cut_into_blocks


def test_a_block_is_eight_batches() -> None:
    assert [block_size(size) for size in (1, 4, 32)] == [8, 32, 256]


@pytest.mark.parametrize(
    ("total", "start", "blocks"),
    [
        (0, 0, []),
        (3, 0, [[0, 1, 2]]),
        (4, 0, [[0, 1, 2, 3]]),
        (9, 0, [[0, 1, 2, 3], [4, 5, 6, 7], [8]]),
        (9, 4, [[4, 5, 6, 7], [8]]),
        (9, 6, [[6, 7], [8]]),  # the rest of a block
        (9, 8, [[8]]),
        (9, 9, []),
    ],
)
def test_a_list_is_cut_into_blocks(total: int, start: int, blocks: list[list[int]]) -> None:
    assert [list(block) for block in cut_into_blocks(total, 4, start)] == blocks


def test_a_part_has_every_nth_block() -> None:
    blocks = [list(block) for block in Part(2, 3, 4).blocks(19)]
    assert blocks == [[4, 5, 6, 7], [16, 17, 18]]
    assert list(Part(3, 3, 4).blocks(8)) == []


@pytest.mark.parametrize(
    ("part", "sizes"),
    [
        # Of 0, 1, 2, ... photos. The blocks of 2 are those of part 1, 2, 3, 1, 2, 3 in turn.
        (Part(1, 3, 2), [0, 1, 2, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4]),
        (Part(2, 3, 2), [0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 4, 4, 4]),
        (Part(3, 3, 2), [0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 4]),
        (Part(1, 1, 2), list(range(13))),
    ],
)
def test_how_many_of_the_first_photos_are_in_a_part(part: Part, sizes: list[int]) -> None:
    assert [part.size(total) for total in range(13)] == sizes
