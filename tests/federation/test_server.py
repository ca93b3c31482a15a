"""The server loop with clients that need no model: who takes part, who trains what, how many bytes travel."""

import numpy as np
import pytest
import torch
from flwr.app import MessageType

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.client import TrainingResult, make_client_app
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.messages import num_bytes
from fcit_plugin.federation.program import Program
from fcit_plugin.federation.server import first_state, run, run_round
from fcit_plugin.knowledge.identity_tokens import ClientToken
from fcit_plugin.scenario.sampling import sample_clients
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.progress import Traffic

BLANK = {"l.lora_A.weight": torch.zeros(2, 3), "l.lora_B.weight": torch.zeros(4, 2)}
PROJECTOR = {"projector.weight": torch.zeros(5)}
N, S, ROUNDS = 6, 3, 2


class AddsItsNumber:
    """Local training that adds (client + 1) to every weight; its token points where its task is."""

    def __init__(self):
        self.trained = []

    def token(self, config):
        mean = np.full(4, 0.001 * config.client, np.float32)
        mean[config.task] = 1
        return ClientToken(config.client, mean, 10 + config.client, 10 + config.client)

    def train(self, config, subspace, shared, extras):
        self.trained.append((config.stage, config.round, config.client, config.subspace))
        step = config.client + 1
        return TrainingResult({k: v + step for k, v in subspace.items()}, {k: v + step for k, v in shared.items()}, 1.0)


class Listener:
    def __init__(self):
        self.rows, self.states, self.bytes, self.losses, self.dropped, self.asked = [], [], [], [], [], []

    def clients_asked(self, asked):
        self.asked += asked

    def reply_dropped(self, dropped):
        self.dropped.append(dropped)

    def round_ended(self, state, assignments, traffic, loss, product_error):
        self.losses.append(loss)
        self.states.append((state.stage, state.round, len(state.subspaces)))
        self.rows += assignments
        self.bytes.append((traffic.up, traffic.down))


class Federation:
    """A whole run of ``stages`` on clients without a model."""

    def __init__(self, stages, schedule=None, shared=PROJECTOR, seed=3, **changes):
        args = FcitArguments(
            fcit_setting="custom",
            fcit_stages=stages,
            fcit_schedule=schedule,
            fcit_num_clients=N,
            fcit_clients_per_round=S,
            fcit_num_rounds=ROUNDS,
            **changes,
        )
        self.local, self.listener, self.traffic, self.sent = AddsItsNumber(), Listener(), Traffic(), []
        self.program = Program(args, get_scenario("custom", args.fcit_stages, args.fcit_schedule), seed, BLANK)
        self.grid = InProcessGrid(make_client_app(self.local), range(N), on_reply=lambda *pair: self.sent.append(pair))
        self.start = first_state(4, shared)

    def run(self):
        self.end = run(self.program, self.start, self.grid, self.listener, self.traffic)
        return self


@pytest.fixture
def two_stages():
    return Federation([["a"], ["b"]]).run()


def test_every_round_of_every_stage_runs_once_with_the_sampled_clients(two_stages):
    expected = [
        (stage, round, client)
        for stage in range(2)
        for round in range(ROUNDS)
        for client in sorted(sample_clients(N, S, seed=3, stage=stage, round=round))
    ]
    rows = [(row["stage"], row["round"], row["client"]) for row in two_stages.listener.rows]
    assert rows == expected
    assert sorted(entry[:3] for entry in two_stages.local.trained) == sorted(expected)
    assert two_stages.listener.states == [(0, 1, 1), (1, 0, 1), (1, 1, 2), (2, 0, 2)]


def test_each_stage_with_its_own_kind_of_instruction_gets_its_own_subspace(two_stages):
    for row in two_stages.listener.rows:
        assert (row["subspace"], row["task"]) == (row["stage"], "ab"[row["stage"]])
        assert row["cosine"] > 0.99
    assert [sum(names.values()) for names in two_stages.end.tasks] == [S * ROUNDS] * 2
    assert two_stages.end.tokens.counts.tolist() == [
        sum(10 + row["client"] for row in two_stages.listener.rows if row["stage"] == k) for k in range(2)
    ]


def test_weights_are_the_closed_form_of_the_rounds_averages(two_stages):
    for k in range(2):
        expected = {key: value.double() for key, value in two_stages.program.fresh(k).items()}
        for round in range(ROUNDS):
            clients = sample_clients(N, S, seed=3, stage=k, round=round)
            step = sum((10 + c) * (c + 1) for c in clients) / sum(10 + c for c in clients)
            expected = {key: value + step for key, value in expected.items()}
        for key, value in expected.items():
            torch.testing.assert_close(two_stages.end.subspaces[k][key].double(), value, rtol=1e-6, atol=1e-6)


def test_a_new_stage_starts_its_subspace_from_its_own_fresh_initialization():
    program = Federation([["a"], ["b"]]).program
    first, again, second = program.fresh(0), program.fresh(0), program.fresh(1)
    assert torch.equal(first["l.lora_A.weight"], again["l.lora_A.weight"])
    assert not torch.equal(first["l.lora_A.weight"], second["l.lora_A.weight"])
    other_seed = Federation([["a"], ["b"]], seed=4).program.fresh(0)
    assert not torch.equal(first["l.lora_A.weight"], other_seed["l.lora_A.weight"])


def test_shared_trainables_are_averaged_over_all_subspaces_of_a_round():
    both = Federation([["a"], ["b"]], schedule=[[0, 1], [1, 0]]).run()
    expected = 0.0
    for stage in range(2):
        for round in range(ROUNDS):
            clients = sample_clients(N, S, seed=3, stage=stage, round=round)
            expected += sum((10 + c) * (c + 1) for c in clients) / sum(10 + c for c in clients)
    torch.testing.assert_close(both.end.shared["projector.weight"], torch.full((5,), expected), rtol=1e-6, atol=0)


def test_a_heterogeneous_schedule_gives_tasks_by_the_order_of_sampling():
    both = Federation([["a"], ["b"]], schedule=[[0, 1], [1, 0]]).run()
    for stage in range(2):
        for round in range(ROUNDS):
            clients = sample_clients(N, S, seed=3, stage=stage, round=round)
            tasks = {c: "ab"[[[0, 1], [1, 0]][stage][i % 2]] for i, c in enumerate(clients)}
            rows = [r for r in both.listener.rows if (r["stage"], r["round"]) == (stage, round)]
            assert {r["client"]: r["task"] for r in rows} == tasks
            assert len({(r["task"], r["subspace"]) for r in rows}) == 2
    assert len(both.end.subspaces) == 2


def test_fedavg_has_one_subspace_over_all_stages_and_no_cosines():
    one = Federation([["a"], ["b"]], fcit_method="sequential").run()
    assert {row["subspace"] for row in one.listener.rows} == {0}
    assert {row["cosine"] for row in one.listener.rows} == {None}
    assert len(one.end.subspaces) == 1


def test_an_upper_bound_of_subspaces_is_kept():
    bound = Federation([["a"], ["b"], ["c"]], fcit_max_subspaces=2).run()
    assert len(bound.end.subspaces) == 2
    assert len({row["subspace"] for row in bound.listener.rows if row["stage"] == 2}) == 1


@pytest.mark.parametrize("shared", [PROJECTOR, {}])
def test_bytes_are_those_of_all_messages_sent_and_all_replies(shared):
    one = Federation([["a"], ["b"]], shared=shared).run()
    assert one.traffic.down == sum(num_bytes(request) for request, _ in one.sent)
    assert one.traffic.up == sum(num_bytes(reply) for _, reply in one.sent)
    kinds = [request.metadata.message_type for request, _ in one.sent]
    assert kinds == ([MessageType.QUERY] * S + [MessageType.TRAIN] * S) * ROUNDS * 2
    floats = (6 + 8 + (5 if shared else 0)) * 4
    assert one.listener.dropped == []
    updates = S * ROUNDS * 2
    assert updates * floats <= one.traffic.down <= updates * (floats + 3 * 128)
    assert one.listener.bytes == sorted(one.listener.bytes), "bytes are counted over the whole run"
    assert one.listener.bytes[-1] == (one.traffic.up, one.traffic.down)


def test_a_query_carries_no_weights():
    one = Federation([["a"]]).run()
    queries = [request for request, _ in one.sent if request.metadata.message_type == MessageType.QUERY]
    assert all(num_bytes(query) == 0 for query in queries)


def test_a_run_can_go_on_from_any_round_to_the_same_bits(two_stages):
    again = Federation([["a"], ["b"]])
    state = again.start
    for _ in range(ROUNDS + 1):
        state = run_round(again.program, state, again.grid, again.listener, Traffic())
    resumed = Federation([["a"], ["b"]])
    resumed.start = state
    resumed.run()
    for one, other in zip(resumed.end.subspaces, two_stages.end.subspaces, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert resumed.end.tokens.sums.tobytes() == two_stages.end.tokens.sums.tobytes()
    assert resumed.end.tasks == two_stages.end.tasks
