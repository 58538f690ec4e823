"""Seeds measured side by side: all of them, in their order, and an error of one is everyone's."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from experiments.stages import side_by_side
from experiments.stages.side_by_side import of_each


def test_results_come_in_the_order_of_seeds_whichever_is_done_first() -> None:
    second = threading.Event()

    def function(seed: int) -> int:
        if seed == 4:
            assert second.wait(60), "seeds are not measured side by side"
        else:
            second.set()
        return 10 * seed

    assert of_each(function, [4, 7, 9]) == [40, 70, 90]
    assert of_each(function, []) == []


def test_no_more_than_a_few_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "AT_ONCE", 2)
    here, most, lock = [0], [0], threading.Lock()
    both = threading.Barrier(2)

    def function(seed: int) -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        both.wait(60)
        with lock:
            here[0] -= 1

    of_each(function, range(6))
    assert most == [2]


def test_all_callers_together_have_no_more_at_once() -> None:
    """As jobs of several models measure their seeds."""
    here, most, lock = [0], [0], threading.Lock()
    full = threading.Barrier(side_by_side.AT_ONCE)

    def function(seed: int) -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        full.wait(60)
        with lock:
            here[0] -= 1

    with ThreadPoolExecutor(4) as models:
        list(models.map(lambda model: of_each(function, range(3)), range(4)))
    assert most == [side_by_side.AT_ONCE]


def test_an_error_of_one_is_raised() -> None:
    def function(seed: int) -> None:
        if seed == 1:
            raise ValueError("of seed 1")

    with pytest.raises(ValueError, match="of seed 1"):
        of_each(function, range(3))


def test_once_it_is_to_stop_no_seed_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(side_by_side, "stopping", threading.Event())
    side_by_side.stopping.set()
    with pytest.raises(CancelledError):
        of_each(begun.append, range(3))
    assert begun == []
