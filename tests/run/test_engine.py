"""Blocks that others measure: what is handed out, what comes of it, and how it is added up.

The engines here are stand-ins: threads, or lists of blocks that a test answers by hand.
"""

import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measuring import measure
from photo_files import make_bytes, make_list, make_noise

from vggnorm.errors import NetworkError, PhotoError, StoppedError
from vggnorm.files.formats import load_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments
from vggnorm.means.recipe import Recipe
from vggnorm.means.sums import Sums
from vggnorm.photos.finding import find_photos
from vggnorm.photos.folder import Folder
from vggnorm.photos.noticed import NOTHING_NOTICED
from vggnorm.photos.skipped import SkippedPhoto
from vggnorm.photos.taken import NOTHING_TAKEN, Taken
from vggnorm.run import engine
from vggnorm.run.engine import Block, BlockReader, Job, Measured, Pending, Submit, Worker, adding_up
from vggnorm.run.options import Say
from vggnorm.run.ray import Ray

SIDE, BATCH = 32, 2  # a block is 16 photos
DAMAGED = (0, 5, 6, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 40)


@dataclass
class Threads:
    """Measures blocks in threads. All that a worker is given, and all it gives, is pickled."""

    blocks: list[Block] = field(default_factory=list)

    def __str__(self) -> str:
        return "threads"

    @contextmanager
    def workers(self, job: Job, say: Say) -> Iterator[Submit]:  # noqa: ARG002
        worker = Worker(pickle.loads(pickle.dumps(job)))

        def work(block: bytes) -> bytes:
            return pickle.dumps(worker.measure(pickle.loads(block)))

        with ThreadPoolExecutor(2) as pool:

            def submit(block: Block) -> Pending:
                self.blocks.append(block)
                future = pool.submit(work, pickle.dumps(block))
                return lambda seconds: _unpickled(future, seconds)

            yield submit


def _unpickled(future: "Future[bytes]", seconds: float) -> Measured | None:
    try:
        measured: Measured = pickle.loads(future.result(seconds))
    except NotDone:
        return None
    return measured


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 70 photos, in five blocks; of one block, few can be used."""
    folder = tmp_path_factory.mktemp("photos")
    names = find_order(70)
    for position, name in enumerate(names):
        pixels = make_noise(SIDE, SIDE, seed=position)
        content = b"" if position in DAMAGED else make_bytes(pixels, "PNG")
        (folder / name).write_bytes(content)
    return folder


def find_order(count: int) -> Sequence[str]:
    """Return names in the seeded order, so that tests can say what stands where."""
    return make_list(count).shuffled(0).names


@pytest.fixture(scope="module")
def model(make_chain: Callable[..., Any]) -> Any:
    return make_chain((4, 5, 3))


def require_equal(found: FilterMeans, expected: FilterMeans) -> None:
    """Require equal means, to the last bit, of the same photos."""
    assert found.taken == expected.taken
    assert found.skipped == expected.skipped
    require_equal_moments(found.measured, expected.measured)
    assert (found.correction is None) == (expected.correction is None)
    if found.correction is not None and expected.correction is not None:
        require_equal_moments(found.correction, expected.correction)


def require_equal_moments(found: Moments, expected: Moments) -> None:
    assert found.count == expected.count
    for layer in expected.mean:
        np.testing.assert_array_equal(found.mean[layer], expected.mean[layer])
        np.testing.assert_array_equal(
            found.squared_deviation[layer], expected.squared_deviation[layer]
        )
        assert found.cubed_deviation is not None
        assert expected.cubed_deviation is not None
        np.testing.assert_array_equal(found.cubed_deviation[layer], expected.cubed_deviation[layer])


# With real networks, in threads


@pytest.mark.parametrize("limit", [None, 1, 13, 14, 15, 29, 30, 31, 51, 99])
def test_an_engine_gives_what_one_process_gives(
    model: Any, folder: Path, limit: int | None
) -> None:
    options: dict[str, Any] = {"size": SIDE, "batch_size": BATCH, "limit": limit}
    one, many = (
        measure(model, folder, **options),
        measure(model, folder, **options, engine=Threads()),
    )
    assert one.image_count == min(limit or 70, 70 - len(DAMAGED))
    require_equal(many, one)
    assert many.recipe == replace(one.recipe, machine=f"threads from {one.recipe.machine}")


def test_the_first_photos_are_run_in_both_precisions(model: Any, folder: Path) -> None:
    # 20 photos: all of the first block, and four of the second, of which the first can be used.
    options: dict[str, Any] = {"precision": "bfloat16", "control": 20}
    options |= {"size": SIDE, "batch_size": BATCH}
    one, many = (
        measure(model, folder, **options),
        measure(model, folder, **options, engine=Threads()),
    )
    assert one.correction is not None
    assert one.correction.count == 20 - len([place for place in DAMAGED if place < 20])
    require_equal(many, one)


def test_a_run_ends_at_its_tolerance(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggnorm.run.loop.TOLERANCE_PHOTOS", 2)
    options: dict[str, Any] = {"size": SIDE, "batch_size": BATCH}
    reached = measure(model, folder, **options, limit=20).uncertainty
    one = measure(model, folder, **options, tolerance=reached)
    many = measure(model, folder, **options, tolerance=reached, engine=Threads())
    assert one.image_count <= 20
    require_equal(many, one)


@pytest.mark.parametrize("begun_by", [None, Threads()])
def test_a_run_goes_on_elsewhere(
    model: Any, folder: Path, tmp_path: Path, begun_by: Threads | None
) -> None:
    options: dict[str, Any] = {"size": SIDE, "batch_size": BATCH}
    path = tmp_path / "checkpoint"
    done: list[int] = []
    with pytest.raises(StoppedError):
        measure(
            model,
            folder,
            **options,
            checkpoint=path,
            engine=begun_by,
            progress=lambda count, _total, _uncertainty: done.append(count),
            stop=lambda: done[-1] >= 10,
        )
    kept = load_means(path).taken.count
    assert 10 <= kept < 16  # within a block
    goes_on_with = Threads() if begun_by is None else None
    found = measure(model, folder, **options, checkpoint=path, engine=goes_on_with)
    require_equal(found, measure(model, folder, **options))
    if goes_on_with is not None:
        assert len(goes_on_with.blocks[0].photos.names) == 16 - kept


def test_a_photo_that_cannot_be_used_ends_a_strict_run(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    photos = find_photos(folder).shuffled(0)
    usable = [place for place in range(70) if place not in DAMAGED]
    bad = photos.names[DAMAGED[-1]]
    names = [photos.names[place] for place in usable[:20]]
    photos = replace(photos, names=(*names, bad))  # in the second block
    with pytest.raises(PhotoError, match=f"{bad}: is empty; without --strict it is left out"):
        measure(
            model,
            photos,
            size=SIDE,
            batch_size=BATCH,
            strict=True,
            checkpoint=path,
            engine=Threads(),
        )
    assert load_means(path).taken.count == 16


def test_photos_that_are_not_where_the_worker_looks(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    photos = find_photos(folder).shuffled(0)
    moved = replace(photos, source=Folder(tmp_path / "elsewhere"))
    with pytest.raises(PhotoError, match="elsewhere: is not there; every node must see the photos"):
        measure(model, moved, size=SIDE, batch_size=BATCH, engine=Threads())


def test_photos_that_are_others_where_the_worker_looks(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    photos = find_photos(folder).shuffled(0)
    for name in photos.names:
        (tmp_path / name).write_bytes((folder / name).read_bytes() + b"0")
    others = replace(photos, source=Folder(tmp_path))
    with pytest.raises(PhotoError, match="has changed since the photos were listed"):
        measure(model, others, size=SIDE, batch_size=BATCH, engine=Threads())


def test_a_relative_folder_is_found_by_a_worker(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    engine = Threads()
    measure(model, folder.name, size=SIDE, batch_size=BATCH, limit=2, engine=engine)
    assert engine.blocks[0].photos.source.locate() == str(folder)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_gives_what_its_folder_gives(
    model: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shutil.make_archive(str(tmp_path / "photos"), kind, folder)
    monkeypatch.chdir(tmp_path)
    engine = Threads()
    options: dict[str, Any] = {"size": SIDE, "batch_size": BATCH}
    found = measure(model, f"photos.{kind}", **options, engine=engine)
    require_equal(found, measure(model, folder, **options))
    sent = engine.blocks[1].photos
    assert sorted(sent.source.contents().names) == sorted(sent.names)  # and not all of the archive
    name = sent.names[0]
    monkeypatch.chdir("/")  # where a worker may run
    assert sent.source.open(name).read() == (folder / name).read_bytes()


def test_colour_profiles_are_counted(model: Any, tmp_path: Path) -> None:
    for number in range(20):
        content = make_bytes(make_noise(SIDE, SIDE), "PNG", icc_profile=b"no profile at all")
        (tmp_path / f"{number}.png").write_bytes(content)
    said: list[str] = []
    measure(model, tmp_path, size=SIDE, batch_size=BATCH, engine=Threads(), say=said.append)
    assert any(line.startswith("20 photos carry a colour profile other than sRGB") for line in said)


@pytest.mark.parametrize("engine", [None, Threads])
def test_photos_without_an_end_are_counted(
    model: Any, tmp_path: Path, engine: type[Threads] | None
) -> None:
    for number in range(20):
        content = make_bytes(make_noise(SIDE, SIDE, seed=number), "JPEG")
        (tmp_path / f"{number:02}.jpg").write_bytes(content[:-2] if number else content)
    said: list[str] = []
    options: dict[str, Any] = {"engine": engine()} if engine else {}
    measure(model, tmp_path, size=SIDE, batch_size=BATCH, say=said.append, **options)
    assert "19 JPEGs lack the mark of the end, but no pixels; used" in said


def test_what_does_not_go_with_an_engine(model: Any, folder: Path) -> None:
    with pytest.raises(ValueError, match="an engine measures all photos, in a named precision"):
        measure(model, folder, size=SIDE, precision="auto", engine=Threads())
    with pytest.raises(ValueError, match="an engine measures all photos, in a named precision"):
        measure(model, folder, size=SIDE, shard=(1, 2), engine=Threads())


def test_a_worker_refuses_another_network(
    make_chain: Callable[..., Any], model: Any, folder: Path
) -> None:
    recipe = measure(model, folder, size=SIDE, batch_size=BATCH, limit=2).recipe
    Worker(Job(model, recipe))
    for other in make_chain((4, 5, 3), seed=1), make_chain((4, 5)):
        with pytest.raises(NetworkError, match="sent to a worker is another network"):
            Worker(Job(other, recipe))


@pytest.mark.parametrize(
    ("options", "trouble"),
    [
        ({"worker_cpus": 0}, "worker_cpus is 0; it must be at least 1"),
        ({"worker_gpus": -1}, "worker_gpus is -1; it must be a whole number, or between 0 and 1"),
        ({"worker_gpus": 1.5}, "worker_gpus is 1.5; it must be"),
        ({"worker_gpus": float("nan")}, "worker_gpus is nan; it must be"),
    ],
)
def test_workers_that_there_cannot_be(options: dict[str, Any], trouble: str) -> None:
    with pytest.raises(ValueError, match=trouble):
        Ray(**options)


# By hand


class Desk:
    """Takes blocks, and answers when the test says so. The one filter's mean is the position."""

    def __init__(self, damaged: tuple[int, ...] = ()) -> None:
        self.damaged = damaged
        self.handed_out: list[Block] = []
        self.done: set[int] = set()  # numbers of blocks

    def submit(self, block: Block) -> Pending:
        number = len(self.handed_out)
        self.handed_out.append(block)
        return lambda _seconds: self._answer(block) if number in self.done else None

    def _answer(self, block: Block) -> Measured:
        sums = []
        for name in block.photos.names:
            number = int(name.removesuffix(".png"))
            if number in self.damaged:
                taken = Taken(skipped=(SkippedPhoto(name, "is empty"),))
                sums.append(Sums(taken))
            else:
                sums.append(Sums(Taken(1), Moments.of({"conv": np.array([[float(number)]])})))
        return Measured(sums, NOTHING_NOTICED)

    @property
    def cut(self) -> list[tuple[str, str]]:
        """The first and the last photo of each block handed out."""
        return [(block.photos.names[0], block.photos.names[-1]) for block in self.handed_out]


def read(
    desk: Desk, recipe: Recipe, count: int, after: Taken = NOTHING_TAKEN, **changes: Any
) -> Iterator[Sums]:
    """Have `count` photos measured in blocks of 8."""
    recipe = replace(recipe, batch_size=1, **changes)
    return BlockReader(make_list(count), recipe).sums(after, desk.submit)


def test_blocks_are_added_in_their_order(recipe: Recipe) -> None:
    desk = Desk()
    running = read(desk, recipe, 20)
    assert next(running).taken == NOTHING_TAKEN  # nothing is done yet
    assert desk.cut == [("00.png", "07.png"), ("08.png", "15.png"), ("16.png", "19.png")]
    desk.done = {1, 2}
    assert next(running).taken == NOTHING_TAKEN  # the first one is not done yet
    desk.done = {0, 1, 2}
    numbers = [sums.measured.mean["conv"].item() for sums in running if sums.measured]
    assert numbers == list(range(20))


def test_so_many_blocks_are_handed_out_at_a_time(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "AHEAD", 2)
    desk = Desk()
    running = read(desk, recipe, 99)
    next(running)
    assert len(desk.handed_out) == 2
    desk.done = {0}
    for _ in range(8 + 1):  # the photos of the first block; then another block is handed out
        next(running)
    assert len(desk.handed_out) == 3


def test_a_block_that_may_hold_the_limit_waits_for_those_before_it(recipe: Recipe) -> None:
    # Of the first 16 photos, 3 are skipped, so that the 20 wanted end with photo 22.
    desk = Desk(damaged=(1, 2, 9))
    running = read(desk, recipe, 64, limit=20)
    next(running)
    assert [block.limit for block in desk.handed_out] == [20, 12]
    desk.done = {0, 1, 2}
    taken = Taken()
    while taken.used < 13 + 7:
        taken += next(running).taken
    assert [block.limit for block in desk.handed_out] == [20, 12, 20 - 13]
    assert taken.count == 23


def test_skipped_photos_make_room_before_the_limit(recipe: Recipe) -> None:
    # When the first block is known to give nothing, 20 photos cannot end before photo 28. So the
    # third block is handed out before the second one is done, and the fourth is not.
    desk = Desk(damaged=tuple(range(8)))
    running = read(desk, recipe, 64, limit=20)
    next(running)
    assert desk.cut == [("00.png", "07.png"), ("08.png", "15.png")]
    desk.done = {0}
    for _ in range(8 + 1):
        next(running)
    assert desk.cut[2:] == [("16.png", "23.png")]


def test_a_run_that_goes_on_begins_with_the_rest_of_its_block(recipe: Recipe) -> None:
    desk = Desk()
    after = Taken(4, (SkippedPhoto("00.png", "is empty"),))
    next(read(desk, recipe, 20, after, limit=18, control=11))
    # 14 more are wanted, which photos 5 to 18 can be.
    assert desk.cut == [("05.png", "07.png"), ("08.png", "15.png")]
    assert [block.limit for block in desk.handed_out] == [14, 11]
    assert [block.in_both for block in desk.handed_out] == [6, 3]  # of the first 11 of the list


def test_a_block_is_sent_without_the_other_photos(folder: Path, recipe: Recipe) -> None:
    photos = find_photos(folder).shuffled(0)
    desk = Desk()
    next(BlockReader(photos, replace(recipe, batch_size=BATCH)).sums(NOTHING_TAKEN, desk.submit))
    block = desk.handed_out[1]
    assert block.photos.names == photos.names[16:32]
    assert block.photos.stamps == {name: photos.stamps[name] for name in photos.names[16:32]}
    assert not any(name in pickle.dumps(block).decode("latin-1") for name in photos.names[:16])


def test_sums_are_added_in_turn(recipe: Recipe) -> None:
    nothing = "0" * 64
    start = FilterMeans(
        Moments.of_none({"conv": 1}),
        replace(recipe, taken_sha256=nothing, photos_sha256=nothing),
    )
    sums = [Sums(Taken(1), Moments.of({"conv": np.array([[float(value)]])})) for value in (2, 7)]
    first, second = adding_up(start, iter(sums))
    assert first.mean["conv"].item() == 2
    assert (second.image_count, second.mean["conv"].item()) == (2, 4.5)
    assert second.squared_deviation["conv"].item() == 2 * 2.5**2
