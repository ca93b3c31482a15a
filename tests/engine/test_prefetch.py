"""The next batch is made while this one is worked on: the same things in the same order, errors where they are due."""

import threading

import pytest
import torch
from llamafactory.hparams import get_train_args

from fcit_plugin.engine.evaluator import Evaluator
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.prefetch import Prefetch


def test_the_next_thing_is_made_while_the_caller_is_busy_with_this_one():
    begun = {item: threading.Event() for item in range(3)}
    makers = {}

    def make(item):
        begun[item].set()
        makers[item] = threading.current_thread()
        return 10 * item

    with Prefetch(make, range(3)) as things:
        for item in range(3):
            assert things.take() == 10 * item
            if item < 2:
                assert not begun[item + 1].is_set(), "before it is asked for nothing runs beside the caller"
            things.prepare()
            assert item == 2 or begun[item + 1].wait(10)
        with pytest.raises(StopIteration):
            things.take()
    assert makers[0] is threading.main_thread() and makers[1] is makers[2] is not makers[0]
    assert not makers[1].is_alive()


def test_what_goes_wrong_is_raised_by_the_batch_that_it_belongs_to():
    def make(item):
        if item == 1:
            raise FileNotFoundError("gone.png")
        return item

    with Prefetch(make, range(3)) as things:
        assert things.take() == 0
        things.prepare()
        with pytest.raises(FileNotFoundError, match=r"gone\.png"):
            things.take()
        assert things.take() == 2


def test_an_error_of_the_caller_waits_for_the_thread_and_is_the_one_that_is_raised():
    go_on, ended = threading.Event(), threading.Event()

    def make(item):
        if item:
            assert go_on.wait(10)
            ended.set()
            raise FileNotFoundError("nobody asks for it")

    def call():
        with Prefetch(make, range(2)) as things:
            things.take()
            things.prepare()
            go_on.set()
            raise KeyError

    with pytest.raises(KeyError):
        call()
    assert ended.is_set()


def test_an_evaluation_prepares_each_batch_but_the_first_in_the_thread_and_draws_nothing(llava_recipe, monkeypatch):
    session, threads = open_session(*get_train_args(llava_recipe(per_device_eval_batch_size=2, fcit_eval_likelihood=False))), []
    evaluator, made = session.evaluator({}), Evaluator._inputs
    monkeypatch.setattr(
        Evaluator, "_inputs", lambda self, batch: (threads.append(threading.current_thread().name), made(self, batch))[1]
    )
    before = torch.get_rng_state()
    ahead = evaluator.evaluate(session.first_state(), ["color"], restricted=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert threads[0] == "MainThread" and len(threads) > 2
    assert all(name.startswith("fcit-prefetch") for name in threads[1:])
    monkeypatch.setattr(Prefetch, "prepare", lambda self: None)
    assert evaluator.evaluate(session.first_state(), ["color"], restricted=False) == ahead
    assert {*threads[len(threads) // 2 :]} == {"MainThread"}
