"""Seeds measured side by side: all of them, in their order, and an error of one is everyone's."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from experiments.stages import seeds
from experiments.stages.seeds import of_each


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
    monkeypatch.setattr(seeds, "AT_ONCE", 2)
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


def test_an_error_is_raised_and_blas_has_its_threads_again() -> None:
    def function(seed: int) -> None:
        np.ones((2, 2)) @ np.ones((2, 2))
        assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} <= {1}
        if seed == 1:
            raise ValueError("of seed 1")

    before = threadpool_info()
    with pytest.raises(ValueError, match="of seed 1"):
        of_each(function, range(3))
    assert threadpool_info() == before
