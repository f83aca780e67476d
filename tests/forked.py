"""What a function gives in a forked child."""

import multiprocessing
import os

import pytest

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_a_child(function):
    """What a function gives in a forked child; the time only bounds a child that hangs."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=lambda: there.send(function()), daemon=True)
    child.start()
    try:
        assert here.poll(60), "the child hangs"
        answer = here.recv()
        child.join(60)
        assert child.exitcode == 0
        return answer
    finally:
        child.kill()
