"""Clients that run at once in several processes: the same run as one after the other, whoever does what and comes when."""

import pickle
import queue
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_server import Federation, N

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.client_states import ClientStates
from fcit_plugin.federation.messages import config_of
from fcit_plugin.federation.parallel_grid import ParallelGrid, deal, outcome_of
from fcit_plugin.federation.reply_cache import ReplyCache


class Gone(Exception):
    """A process has ended."""


class Threads:
    """Stands for the other processes: each does its jobs in a thread, on copies that were pickled, with its own delay."""

    def __init__(self, locals_, timeout=None, delays=(), dies=None):
        self.count = len(locals_)
        self.did = [[] for _ in locals_]
        self.jobs = []
        self._locals, self._timeout, self._delays, self._dies = locals_, timeout, delays, dies
        self._arrived: queue.Queue = queue.Queue()

    def send(self, value, to):
        value = pickle.loads(pickle.dumps(value))
        threading.Thread(target=self._work, args=(value[1], to), daemon=True).start()

    def received(self, sources):
        while True:
            rank, value = self._arrived.get(timeout=20)
            assert rank in sources
            if value is None:
                raise Gone(f"process {rank}")
            yield rank, pickle.loads(value)

    def _work(self, jobs, rank):
        app = make_client_app(self._locals[rank])
        for number, job in jobs:
            config = config_of(job.request)
            self.jobs.append((rank, job))
            if self._dies == (config.stage, config.round, config.client):
                self._arrived.put((rank, None))
                return
            time.sleep(self._delays[rank] if self._delays else 0)
            outcome = outcome_of(app, job, self._timeout)
            self.did[rank].append((job.request.metadata.message_type, config.client))
            if job.request.metadata.message_type == "train":
                self._say(rank, ("step", number, 0.25))
                self._say(rank, ("log", number, {"loss": config.client}))
            self._say(rank, ("outcome", number, *outcome))

    def _say(self, rank, what):
        self._arrived.put((rank, pickle.dumps(what)))


class Notes:
    def __init__(self, config):
        self.config, self.steps, self.logs = config, 0, []

    def client_step(self, config, loss):
        assert config == self.config
        self.steps += 1

    def client_log(self, config, logs):
        assert config == self.config
        self.logs.append(logs["loss"])

    def entries(self):
        line = {"current_steps": self.steps, "stage": self.config.stage, "loss": sum(self.logs), "client": self.config.client}
        return {"steps": self.steps, "log": [line]}


class Notebook:
    """A log of who trained."""

    def __init__(self):
        self.lines = []

    def open_notes(self, config, watch):
        watch()
        return Notes(config)

    def replay(self, entries):
        self.lines += entries["log"]


class Parallel(Federation):
    """The federation of test_server, whose clients are shared out to ``count`` processes."""

    def __init__(self, count, folder, costs=lambda client: 1, crew=None, change=lambda local: None, **changes):
        super().__init__([["a"], ["b"]], **changes)
        locals_ = [type(self.local)() for _ in range(count)]
        for local in locals_:
            change(local)
        self.crew = Threads(locals_, changes.get("fcit_client_timeout"), **(crew or {}))
        self.notebook, app = Notebook(), make_client_app(locals_[0])
        cache = ReplyCache(app, lambda stage, round: folder / f"{stage}-{round}", "this run", self.notebook)
        self.grid = ParallelGrid(
            self.crew,
            app,
            cache,
            self.notebook,
            lambda request: costs(config_of(request).client),
            range(N),
            lambda *pair: self.sent.append(pair),
            timeout=changes.get("fcit_client_timeout"),
            states=ClientStates(),
        )


def same(one, other):
    """Whether two runs have come to the same state, to the bit, and heard and sent the same."""
    assert one.end.tokens.sums.tobytes() == other.end.tokens.sums.tobytes()
    for mine, theirs in zip([*one.end.subspaces, one.end.shared], [*other.end.subspaces, other.end.shared], strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine | theirs)
    for key in ("rows", "states", "bytes", "losses", "dropped", "asked"):
        assert getattr(one.listener, key) == getattr(other.listener, key), key
    asked = [[config_of(request).client for request, _ in run.sent] for run in (one, other)]
    assert asked[0] == asked[1], "replies are taken up in the order of the requests"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("delays", [(0, 0, 0, 0, 0), (0, 0.05, 0, 0.02, 0.01)])
def test_any_number_of_processes_comes_to_the_state_of_one_whoever_is_late(tmp_path, count, delays):
    found = Parallel(count, tmp_path, costs=lambda client: client + 1, crew={"delays": delays}).run()
    same(Federation([["a"], ["b"]]).run(), found)


def fails(local):
    train = local.train

    def failing(config, *rest):
        if config.client == 2:
            raise FcitError("records are missing")
        return train(config, *rest)

    local.train = failing


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_client_that_fails_in_any_process_is_left_out_with_its_reason(tmp_path, count):
    one = Federation([["a"], ["b"]])
    fails(one.local)
    found = Parallel(count, tmp_path, change=fails)
    same(one.run(), found.run())
    assert {row["reason"] for row in found.listener.dropped} == {"records are missing"}


def test_each_process_has_its_own_clock_for_a_client_that_takes_too_long(tmp_path):
    def slow(local):
        train = local.train

        def late(config, *rest):
            time.sleep(1.5 if config.client == 1 else 0)
            return train(config, *rest)

        local.train = late

    found = Parallel(3, tmp_path, change=slow, fcit_client_timeout=1.0).run()  # the others take a moment on a busy machine, too
    assert {row["client"] for row in found.listener.dropped} == {1}
    assert "`fcit_client_timeout`" in found.listener.dropped[0]["reason"]


def test_what_is_noted_of_a_training_goes_into_the_log_in_the_order_of_the_requests(tmp_path):
    found = Parallel(3, tmp_path, crew={"delays": (0.03, 0.0, 0.01)}).run()
    trained = [config_of(request).client for request, _ in found.sent if request.metadata.message_type == "train"]
    assert [line["client"] for line in found.notebook.lines] == trained
    told = [line for line in found.notebook.lines if line["current_steps"]]
    assert told, "other processes have told of steps"
    assert all((line["current_steps"], line["loss"]) == (1, line["client"]) for line in told)


def test_the_queries_of_one_task_go_to_one_process_and_its_tokens_go_with_the_trainings(tmp_path):
    schedule = [[0, 1, 0], [1, 0, 1]]
    found = Parallel(2, tmp_path, schedule=schedule).run()
    homes: dict[int, set[int]] = {}
    for rank, job in found.crew.jobs:
        config = config_of(job.request)
        if job.request.metadata.message_type == "query":
            homes.setdefault(config.task, set()).add(rank)
            assert job.token is None
        else:
            assert job.token is not None and job.token.client == config.client
            assert job.token.mean.tobytes() == found.local.token(config).mean.tobytes()
    assert homes and all(len(ranks) == 1 for ranks in homes.values())


def test_a_process_that_ends_ends_the_round_and_what_others_have_answered_is_not_asked_again(tmp_path):
    whole = Parallel(3, tmp_path / "whole").run()
    died = Parallel(3, tmp_path / "kept", crew={"dies": (1, 0, _last_of_another_rank(whole))})
    with pytest.raises(Gone, match="process"):
        died.run()
    again = Parallel(3, tmp_path / "kept")
    again.start = died.program and again.start
    asked = []
    for rank, local in enumerate(again.crew._locals):
        local.train = _recorded(local.train, asked, rank)
    again.run()
    same(Federation([["a"], ["b"]]).run(), again)
    kept = len(list((tmp_path / "kept").glob("*/client-*")))
    assert len(asked) < kept, "replies of the first attempt were used"
    assert [line["client"] for line in again.notebook.lines] == [line["client"] for line in whole.notebook.lines]


def _last_of_another_rank(run):
    return [
        config_of(job.request).client
        for rank, job in run.crew.jobs
        if job.request.metadata.message_type == "train"
        and config_of(job.request).stage == 1
        and config_of(job.request).round == 0
    ][-1]


def _recorded(train, asked, rank):
    def recorded(config, *rest):
        asked.append((rank, config.stage, config.round, config.client))
        return train(config, *rest)

    return recorded


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 8))
def test_work_is_dealt_out_once_and_no_process_has_more_than_a_fair_share_and_one_piece(costs, count):
    shares = deal(costs, count)
    assert sorted(piece for share in shares for piece in share) == list(range(len(costs)))
    loads = [sum(costs[piece] for piece in share) for share in shares]
    assert max(loads) <= sum(costs) / count + max(costs, default=0)
    for share in shares:
        assert [costs[piece] for piece in share] == sorted((costs[piece] for piece in share), reverse=True)
    assert deal(costs, count) == shares
