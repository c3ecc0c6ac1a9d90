"""Large photos wait for each other."""

import threading

import pytest

from vggnorm.photos.budget import PixelBudget


def held_at_once(budget: PixelBudget, sizes: list[int]) -> list[int]:
    """Hold each size in a thread of its own; give how much was held whenever a thread began."""
    lock, held, sums = threading.Lock(), [0], list[int]()

    def hold(size: int) -> None:
        with budget.holding(size):
            with lock:
                held[0] += size
                sums.append(held[0])
            threading.Event().wait(0.001)
            with lock:
                held[0] -= size

    threads = [threading.Thread(target=hold, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sums


def test_no_more_than_the_budget_is_held() -> None:
    sums = held_at_once(PixelBudget(10), [6, 5, 4, 3, 7, 1, 2, 6, 5, 4])
    assert len(sums) == 10
    assert max(sums) <= 10


def test_a_photo_beyond_the_budget_is_decoded_alone() -> None:
    sums = held_at_once(PixelBudget(10), [25, 3, 25, 4, 3])
    assert len(sums) == 5
    assert all(total <= 10 or total == 25 for total in sums)


def test_two_that_fit_are_held_together() -> None:
    budget = PixelBudget(10)
    together = threading.Barrier(2, timeout=30)

    def hold() -> None:
        with budget.holding(5):
            together.wait()  # never passes if the other has to wait

    other = threading.Thread(target=hold)
    other.start()
    hold()
    other.join()


def test_what_fails_gives_its_pixels_back() -> None:
    budget = PixelBudget(10)

    def fail() -> None:
        with budget.holding(10):
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    with budget.holding(10):
        pass
