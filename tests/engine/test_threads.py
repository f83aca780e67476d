"""Threads leave PyTorch as it was, are shared by all who ask, and do not outlive a fork."""

import threading

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from conftest import small_problem
from forked import forks, in_a_child
from mamlkit import methods
from mamlkit.engine import meta_batch, threads
from mamlkit.runs import devices


def in_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def gradient(learner, params, tasks):
    found, losses = meta_batch.meta_gradient(methods.maml(learner), params, tasks)
    return torch.cat([losses, *(value.flatten() for value in found.values())]).tolist()


def test_six_threads_at_once_get_the_same_numbers_and_leave_two_threads(two_threads, monkeypatch):
    monkeypatch.setattr(meta_batch, "CHUNK_BYTES", 1)  # a task is a chunk
    problem = small_problem("conv-stride", tasks=3)
    wanted, found = gradient(*problem), []

    def work():
        for _ in range(5):
            with threads.one_thread():
                torch.ones(10).sum()
            found.append(gradient(*problem))
        numbers.append(torch.get_num_threads())

    numbers = []
    workers = [threading.Thread(target=work) for _ in range(6)]
    for each in (threading.Thread.start, threading.Thread.join):
        for worker in workers:
            each(worker)
    assert len(found) == 30 and all(numbers == wanted for numbers in found)
    assert numbers == [2] * 6 and torch.get_num_threads() == 2 and in_a_thread(torch.get_num_threads) == 2


@pytest.mark.parametrize("first_out", ["first in", "last in"])
def test_a_thread_that_comes_while_another_is_alone_has_its_own_number(first_out, two_threads):
    def meanwhile():
        with threads.one_thread():
            entered.set()
            leave.wait()
        return torch.get_num_threads()

    entered, leave, found = threading.Event(), threading.Event(), []
    other = threading.Thread(target=lambda: found.append(meanwhile()))
    with threads.one_thread():
        other.start()
        entered.wait()
        assert torch.get_num_threads() == 1
        if first_out == "last in":
            leave.set()
            other.join()
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    leave.set()
    other.join()
    assert found == [2] and torch.get_num_threads() == 2 and in_a_thread(torch.get_num_threads) == 2


def test_a_thread_that_shares_work_while_another_is_alone_has_its_number(two_threads):
    with threads.one_thread():
        alone = in_a_thread(lambda: threads.each(lambda _: threading.get_ident(), [0] * 8))
    assert threading.main_thread().ident not in alone and torch.get_num_threads() == 2
    with threads.one_thread():
        assert in_a_thread(lambda: (threads.each(abs, [-1, -2]), torch.get_num_threads())) == ([1, 2], 2)
        assert threads.each(lambda _: threading.get_ident(), [0, 0]) == [threading.get_ident()] * 2


def test_who_has_one_thread_changes_nobodys_number(two_threads):
    def work():
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.set()
        go.wait()
        with threads.one_thread():
            return torch.get_num_threads()

    started, go = threading.Event(), threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    started.wait()
    torch.set_num_threads(2)
    go.set()
    worker.join()
    assert in_a_thread(torch.get_num_threads) == 2


def test_numpys_products_get_their_threads_back_when_the_last_has_left():
    numbers = lambda: {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    with threadpool_limits(limits=2, user_api="blas"):
        before, first, last = numbers(), threads.one_blas_thread(), threads.one_blas_thread()
        first.__enter__()
        last.__enter__()
        first.__exit__(None, None, None)
        assert numbers() <= {1}
        last.__exit__(None, None, None)
        assert numbers() == before


def test_any_thread_has_numpys_products_on_one_thread_whoever_came_first():
    numbers = lambda: {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def within():
        with threads.one_blas_thread():
            return numbers()

    with threadpool_limits(limits=2, user_api="blas"):
        before = numbers()
        assert within() <= {1} and in_a_thread(within) <= {1} and within() <= {1}
        ours = threads.one_blas_thread()
        ours.__enter__()
        in_a_thread(lambda: ours.__exit__(None, None, None))
        assert numbers() == before


@pytest.mark.parametrize("number", [0, -1, 10**7])
def test_a_number_of_threads_that_cannot_be_meant_is_refused(number):
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match=f"threads={number}, but whole numbers from 1 to 1024 are allowed"):
        devices.set_up("cpu", threads=number)
    assert torch.get_num_threads() == before


def test_more_threads_than_can_be_started_are_refused(two_threads, monkeypatch):
    torch.set_num_threads(10**7)
    with pytest.raises(ValueError, match="threads=10000000, but whole numbers from 1 to 1024"):
        threads.each(abs, [1, 2])
    torch.set_num_threads(7)
    start, count = threading.Thread.start, []

    def no_more(thread):
        count.append(thread)
        if len(count) > 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    wanted = "does not start 7 threads .can't start new thread.; use fewer"
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=wanted):
        patch.setattr(threading.Thread, "start", no_more)
        threads.each(abs, [1, 2])
    assert not any(thread.is_alive() for thread in count) and torch.get_num_threads() == 7
    assert threads.each(abs, [-1, 2]) == [1, 2]


@forks
def test_a_forked_child_goes_on_with_its_parents_work(two_threads, monkeypatch):
    monkeypatch.setattr(meta_batch, "CHUNK_BYTES", 1)
    problem, many = small_problem("conv-stride", tasks=3), torch.ones(1 << 20)
    work = lambda: (gradient(*problem), float(many.exp().sum()))  # a sum that PyTorch splits between threads
    wanted = work()
    assert in_a_child(lambda: (work()[0], torch.get_num_threads())) == (wanted[0], 1)

    def again():
        work()
        return threads.each(lambda _: threading.get_ident(), range(2)), threading.get_ident()

    alone, child = in_a_child(again)
    assert alone == [child] * 2


@forks
def test_a_child_may_take_threads_of_its_own(two_threads):
    threads.each(abs, [1, 2])

    def work():
        torch.set_num_threads(2)
        return threads.each(lambda x: (x, torch.get_num_threads()), [3, 1, 2])

    assert in_a_child(work) == [(3, 1), (1, 1), (2, 1)]


@forks
def test_a_child_that_is_forked_at_a_bad_moment_works(two_threads):
    entered = threads.one_thread()
    entered.__enter__()
    try:
        assert in_a_child(lambda: (entered.__exit__(None, None, None), torch.get_num_threads())) == (False, 1)
    finally:
        entered.__exit__(None, None, None)
    assert torch.get_num_threads() == 2
    with threads._shared.lock:  # by another thread, as far as the child knows
        assert in_a_child(lambda: threads.each(abs, [-1, -2])) == [1, 2]
    with threads.one_blas_thread():
        leave = threads.one_blas_thread()
        leave.__enter__()
        with threads._shared.lock:
            assert in_a_child(lambda: leave.__exit__(None, None, None)) is False
        leave.__exit__(None, None, None)


@pytest.mark.parametrize("fails", [0, 1])
def test_work_is_spread_and_waited_for_whoever_fails(fails, two_threads):
    done, go = [], threading.Event()

    def work(part):
        if part == fails:
            go.set()
            raise OSError(f"part {part}")
        assert go.wait(60)
        done.append(part)

    with pytest.raises(OSError, match=f"part {fails}"):
        threads.spread(work, [0, 1])
    assert done == [1 - fails]
    threads.spread(done.append, [])
    threads.spread(done.append, [5, 6, 7])
    assert sorted(done[1:]) == [5, 6, 7]
