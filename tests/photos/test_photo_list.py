"""The order of photos, the parts of a list, and what identifies it."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest
from photo_files import make_list, touch

from vggnorm.photos.blocks import Part
from vggnorm.photos.digests import names_sha256, sum_sha256
from vggnorm.photos.finding import find_photos


def test_shuffled_is_a_permutation_by_seed() -> None:
    photos = replace(make_list(40), missing=3)
    shuffled = photos.shuffled(3)
    assert sorted(shuffled.names) == list(photos.names)
    assert shuffled.names != photos.names
    assert (shuffled.source, shuffled.missing) == (photos.source, 3)
    assert photos.shuffled(3) == shuffled
    assert len({photos.shuffled(seed).names for seed in range(50)}) == 50
    assert photos == replace(make_list(40), missing=3)


def test_shuffled_neither_reads_nor_moves_the_global_random_state() -> None:
    random.seed(1)
    state = random.getstate()
    expected = make_list(40).shuffled(0)
    assert random.getstate() == state
    random.seed(2)
    assert make_list(40).shuffled(0) == expected


def test_the_first_of_shuffled_are_a_fair_sample() -> None:
    """Each of 10 photos is among the first 5 in half of 1000 orders.

    That is 500 times, give or take five standard deviations of 16.
    """
    often = dict.fromkeys(make_list(10).names, 0)
    for seed in range(1000):
        for name in make_list(10).shuffled(seed).names[:5]:
            often[name] += 1
    assert min(often.values()) > 420
    assert max(often.values()) < 580


def test_the_seed_alone_decides_the_order() -> None:
    photos = make_list(40)
    assert (photos.seed, photos.shuffled(3).seed) == (None, 3)
    assert photos.shuffled(5).shuffled(3) == photos.shuffled(3)


def test_a_list_is_identified_by_names_and_sizes(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "b.png").write_bytes(b"12345")
    photos = find_photos(tmp_path)
    expected = hashlib.sha256(b"a.png\x000\0b.png\x005\0").hexdigest()
    assert photos.sha256() == expected
    (tmp_path / "a.png").write_bytes(b"1")
    changed = find_photos(tmp_path).sha256()
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    nowhere = find_photos(tmp_path).sha256()
    (tmp_path / "a.png").unlink()
    assert len({photos.sha256(), changed, nowhere, find_photos(tmp_path).sha256()}) == 4


def test_a_list_knows_the_whole_list_that_it_comes_from(tmp_path: Path) -> None:
    whole = find_photos(touch(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png"))
    part = whole.shuffled(7).shard(1, 3)
    assert (part.seed, part.part, len(part.names)) == (7, Part(1, 3, 256), 5)
    for photos in whole, whole.shuffled(7), part:
        assert (photos.listed, photos.listed_sha256) == (5, whole.sha256())
    assert whole.shuffled(7).shard(2, 3).sha256() != whole.sha256()


def test_a_part_has_every_nth_block_worked_by_hand() -> None:
    """With 1 photo in a batch, a block is 8 photos: 30 photos are blocks of 8, 8, 8 and 6."""
    photos = make_list(30)

    def numbers(number: int, count: int) -> list[int]:
        part = photos.shard(number, count, batch_size=1)
        return [photos.names.index(name) for name in part.names]

    assert numbers(1, 1) == list(range(30))
    assert numbers(1, 2) == [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]
    assert numbers(2, 2) == [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29]
    assert numbers(1, 3) == [0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29]
    assert numbers(3, 3) == [16, 17, 18, 19, 20, 21, 22, 23]
    assert numbers(4, 5) == [24, 25, 26, 27, 28, 29]
    assert numbers(5, 5) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_shards_are_disjoint_and_together_all(count: int, batch_size: int) -> None:
    photos = make_list(40).shuffled(3)
    parts = [photos.shard(number, count, batch_size=batch_size) for number in range(1, count + 1)]
    assert sorted(name for part in parts for name in part.names) == sorted(photos.names)
    for number, part in enumerate(parts, 1):
        assert part.part == Part(number, count, 8 * batch_size)
        assert part.part.size(40) == len(part.names)


def test_a_block_is_256_photos_by_default() -> None:
    photos = make_list(600)
    assert photos.shard(2, 2).names == photos.names[256:512]


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_shards_that_there_are_not_are_refused(shard: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"shard is {shard[0]}/{shard[1]}; it must be one of"):
        make_list(9).shard(*shard)


def test_a_part_is_neither_shuffled_nor_cut_again() -> None:
    part = make_list(9).shuffled(0).shard(1, 3)
    with pytest.raises(ValueError, match="shuffle the whole list first"):
        part.shuffled(0)
    with pytest.raises(ValueError, match="cut the whole list"):
        part.shard(1, 3)


def test_sums_of_digests_worked_by_hand() -> None:
    assert sum_sha256([]) == "0" * 64
    assert sum_sha256(["f" * 64, bytes(31) + b"\x12"]) == "0" * 62 + "11"  # 2**256 - 1 + 18


def test_names_are_identified_in_any_order() -> None:
    names = ["a.png", "sub/é.png"]
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    assert names_sha256(names) == names_sha256(reversed(names)) == sum_sha256(digests)
