"""Terms and measures of the continual methods, against autograd and loops over single numbers."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from toy import PROJECTOR, D, Toy, noise

from fcit_plugin.adapters.experts import Experts
from fcit_plugin.arguments import FcitArguments
from fcit_plugin.continual.a_gem.method import Projection
from fcit_plugin.continual.c_lora.method import SelfRegularization
from fcit_plugin.continual.lamol.method import WholeRecords
from fcit_plugin.continual.lwf.method import Distillation
from fcit_plugin.continual.method import record
from fcit_plugin.continual.methods import make_method
from fcit_plugin.continual.o_lora.method import Orthogonality
from fcit_plugin.continual.terms import Pull
from fcit_plugin.federation.scaffold import GRADIENT, Correction
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.scenario.replay import earlier_tasks, kept_records
from fcit_plugin.scenario.sampling import sample_clients
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.server_state import ServerState


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def weights():
    made = {"l.lora_A.weight": nn.Parameter(random(2, 5)), "l.lora_B.weight": nn.Parameter(random(4, 2))}
    for weight in made.values():
        weight.grad = torch.ones_like(weight)
    return made


def added(term, weights):
    with torch.no_grad():
        term.add(weights)
    return {key: weight.grad - 1 for key, weight in weights.items()}


def by_autograd(loss, weights):
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return {
        key: torch.zeros_like(weight) if gradient is None else gradient
        for (key, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


@pytest.mark.parametrize("sign", [1, -1])
def test_the_projection_is_the_nearest_gradient_that_does_not_go_against_the_reference(sign):
    """By the multiplier of the quadratic program min |z - g|^2 with z . r >= 0, over the numbers of all weights together."""
    ours, seen = weights(), []
    drawn = {key: random(*weight.shape, seed=5) for key, weight in ours.items()}
    against = sign * sum(value.sum().item() for value in drawn.values()) < 0  # g is 1 everywhere
    reference = {key: sign * value for key, value in drawn.items()}

    class Kept:
        def gradient(self, count):
            seen.append(count)
            return reference

    found = added(Projection(Kept(), 3), ours)
    r = [x for key in ours for x in reference[key].flatten().tolist()]
    multiplier = -sum(r) / sum(x * x for x in r) if against else 0.0
    torch.testing.assert_close(torch.cat([found[key].flatten() for key in ours]), multiplier * torch.tensor(r))
    left = sum((weight.grad * reference[key]).sum().item() for key, weight in ours.items())
    assert left == pytest.approx(0 if against else sum(r), abs=1e-5) and seen == [3]
    ours["l.lora_A.weight"].grad = None
    added_to_one = dict(ours)
    reference = {key: torch.zeros_like(value) for key, value in reference.items()}
    before = ours["l.lora_B.weight"].grad.clone()
    with torch.no_grad():
        Projection(Kept(), 3).add(added_to_one)
    assert torch.equal(before, ours["l.lora_B.weight"].grad), "without a reference, and with a weight that has no gradient"


@pytest.mark.parametrize("stiff", [False, True])
def test_the_pull_is_the_gradient_of_its_spring(stiff):
    ours = weights()
    anchor = {key: random(*weight.shape, seed=7) for key, weight in ours.items()}
    stiffness = {key: random(*weight.shape, seed=9) ** 2 for key, weight in ours.items()} if stiff else None
    energy = sum(
        0.7 / 2 * ((stiffness[key] if stiff else 1) * (weight - anchor[key]) ** 2).sum() for key, weight in ours.items()
    )
    expected = by_autograd(energy, ours)
    for key, gradient in added(Pull(anchor, 0.7, stiffness), ours).items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-4, atol=1e-5)


def test_orthogonality_is_the_gradient_of_the_absolute_products_with_each_earlier_subspace():
    ours = weights()
    earlier = [{key: random(*weight.shape, seed=s) for key, weight in ours.items()} for s in (3, 4)]
    energy = sum((state["l.lora_A.weight"] @ ours["l.lora_A.weight"].T).abs().sum() for state in earlier)
    expected = by_autograd(0.3 * energy, ours)
    for key, gradient in added(Orthogonality(earlier, 0.3), ours).items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-4, atol=1e-5)


def test_self_regularization_is_the_gradient_of_what_both_the_earlier_and_the_new_product_change():
    ours = weights()
    earlier = [{key: random(*weight.shape, seed=seed) for key, weight in ours.items()} for seed in (11, 13)]
    changed = sum(state["l.lora_B.weight"] @ state["l.lora_A.weight"] for state in earlier).abs()
    overlap = 0.3 * ((changed * (ours["l.lora_B.weight"] @ ours["l.lora_A.weight"])) ** 2).sum()
    expected = by_autograd(overlap, ours)
    for key, gradient in added(SelfRegularization(earlier, 0.3), ours).items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-4, atol=1e-4)
    ours["l.lora_A.weight"].grad = None  # not in training
    before = ours["l.lora_B.weight"].grad.clone()
    with torch.no_grad():
        SelfRegularization(earlier, 0.3).add(ours)
    torch.testing.assert_close(ours["l.lora_B.weight"].grad - before, expected["l.lora_B.weight"], rtol=1e-4, atol=1e-3)
    assert ours["l.lora_A.weight"].grad is None


def test_the_correction_is_added_and_the_mean_is_that_of_the_gradients_before():
    ours = weights()
    correction = {key: random(*weight.shape, seed=5) for key, weight in ours.items()}
    term = Correction(correction)
    for step in (1.0, 4.0):
        for weight in ours.values():
            weight.grad = torch.full_like(weight, step)
        term.add(ours)
        for key, weight in ours.items():
            torch.testing.assert_close(weight.grad, step + correction[key])
    assert all(torch.equal(mean, torch.full_like(mean, 2.5)) for mean in term.measured()[GRADIENT].values())


class Reads(nn.Module):
    """A model whose logits are a linear function of one-hot tokens."""

    def __init__(self):
        super().__init__()
        self.head = nn.Parameter(random(6, 6))

    def forward(self, input_ids):
        class Output:
            logits = nn.functional.one_hot(input_ids, 6).float() @ self.head

        return Output


def test_the_distillation_is_the_divergence_from_the_teacher_over_the_learned_tokens():
    model, teacher = Reads(), random(6, 6, seed=11)
    ids = torch.tensor([[1, 2, 3, 4], [5, 0, 1, 2]])
    labels = torch.tensor([[-100, -100, 3, 4], [-100, 0, -100, -100]])
    inputs, term = {"input_ids": ids, "labels": labels}, Distillation({"head": teacher}, alpha=0.4, temperature=2.0)
    found = term.loss(model, {"head": model.head}, inputs, model(ids).logits)
    expected = 0.0
    for row, place in ((0, 1), (0, 2), (1, 0)):  # each logit is for the next token
        p, q = (torch.softmax(head[ids[row, place]] / 2.0, dim=0) for head in (teacher, model.head))
        expected += 0.4 * 4.0 * (p * (p / q).log()).sum()
    torch.testing.assert_close(found, expected)
    assert found.requires_grad
    before = model.head.detach().clone()
    itself = Distillation({"head": before}, 1.0, 2.0).loss(model, {"head": model.head}, inputs, model(ids).logits)
    assert abs(itself.item()) < 1e-6
    (gradient,) = torch.autograd.grad(itself, model.head)
    assert gradient.abs().max() < 1e-6
    assert torch.equal(model.head, before)


def test_the_loss_of_whole_records_is_lambda_times_its_mean_over_all_tokens():
    """With the divisor of the Trainer, the learned tokens, it is the paper's lambda L_LM; token by token."""
    logits, ids = random(2, 6, 7), torch.tensor([[3, 1, 4, 1, 5, 0], [2, 6, 5, 0, 0, 0]])
    labels = torch.tensor([[-100, -100, 4, 1, 5, -100], [-100, -100, 5, -100, -100, -100]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]])
    inputs = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    losses = []
    for row, length in ((0, 5), (1, 3)):
        for place in range(1, length):
            told = logits[row, place - 1].tolist()
            losses.append(math.log(sum(math.exp(x) for x in told)) - told[ids[row, place]])
    found = WholeRecords(0.25).loss(nn.Identity(), {}, inputs, logits)
    assert found.item() / 4 == pytest.approx(0.25 * sum(losses) / len(losses), rel=1e-5)


def test_each_token_weighs_the_experts_by_its_own_router():
    factor = nn.Linear(5, 6, bias=False)
    experts, x = Experts(factor, 3), random(2, 4, 5)
    B = random(7, 6)
    gates = torch.softmax(x @ experts.router.weight.T, dim=-1)
    expected = sum(
        gates[..., e : e + 1] * (x @ factor.weight[2 * e : 2 * e + 2].T @ B[:, 2 * e : 2 * e + 2].T) for e in range(3)
    )
    torch.testing.assert_close(experts(x) @ B.T, expected)
    experts(x).sum().backward()
    assert factor.weight.grad.abs().max() > 0 and experts.router.weight.grad.abs().max() > 0


class Squares:
    """Three records whose gradients are known; a fourth one is never asked for."""

    def __init__(self, weights):
        self.weights, self.count = weights, None

    def sample_gradients(self, count):
        self.count = count
        for k in range(3):
            for weight in self.weights.values():
                weight.grad = torch.full_like(weight, float(k))
            yield


def test_the_fisher_information_is_the_mean_of_squared_gradients_summed_over_the_stages_by_examples():
    method = make_method(FcitArguments(fcit_method="ewc", fcit_ewc_samples=3, fcit_num_rounds=2))
    seen = Squares(weights())
    measured = method.measure(seen)
    assert seen.count == 3
    assert all(torch.allclose(value, torch.full_like(value, (0 + 1 + 4) / 3)) for value in measured["fisher"].values())
    assert (method.wants(1, 0), method.wants(1, 1)) == ((), ("fisher",))

    key, shared = "l.lora_A.weight", "p.weight"
    fisher = [{"fisher": {key: torch.full((2, 5), f), shared: torch.full((1,), f)}} for f in (1.0, 4.0)]
    state = ServerState(SubspaceTokens.empty(2), {shared: torch.tensor([3.0])}, [{key: torch.full((2, 5), 9.0)}], round=1)
    state.method_state = method.remember(state, state, fisher, [1, 2])
    state.method_state = method.remember(state, state, fisher[:1], [5])
    assert torch.equal(record("fisher", state.method_state)[key], torch.full((2, 5), (1 + 2 * 4) / 3 + 1))
    assert torch.equal(record("anchor", state.method_state)[key], state.subspaces[0][key])
    assert torch.equal(record("anchor", state.method_state)[shared], state.shared[shared])
    state.round = 0
    assert method.remember(state, state, [{}], [1]) is state.method_state, "in the middle of a stage nothing changes"


def trimmed(change, share):
    """What the largest ``share`` of a list of numbers is, 0 for the others."""
    largest = sorted(range(len(change)), key=lambda i: -abs(change[i]))[: int(share * len(change))]
    return [value if i in largest else 0.0 for i, value in enumerate(change)]


def elected(values):
    """The mean of those that have the sign of their sum."""
    same = [value for value in values if value * sum(values) > 0]
    return sum(same) / len(same) if same else 0.0


def test_stages_are_merged_as_single_numbers_say():
    """Against the paper's algorithm 1 number by number; a stage's middle, and the first stage, are left as they are."""
    args = FcitArguments(fcit_method="ties_merging", fcit_num_rounds=2, fcit_ties_density=0.6, fcit_ties_lambda=0.5)
    method, shapes = make_method(args), {"l.lora_A.weight": (2, 5), "l.lora_B.weight": (4, 2)}

    def drawn(seed):
        return {key: random(*shape, seed=seed) for key, shape in shapes.items()}

    origin, trained = drawn(20), []
    state = ServerState(SubspaceTokens.empty(2), {}, [origin])
    for stage in range(3):
        for round in range(2):
            weights = drawn(100 * stage + 10 * round)
            after = dataclasses.replace(state, subspaces=[weights], stage=stage, round=round)
            before = dataclasses.replace(after, subspaces=state.subspaces)
            after.method_state = method.remember(before, after, [], [])
            (found,) = method.merged(after)
            trained += [weights] if round else []
            if round == 0 or stage == 0:
                assert found is weights
            state = dataclasses.replace(after, subspaces=[found])
        flattened = [[x for key in shapes for x in (w[key] - origin[key]).flatten().tolist()] for w in trained]
        merged = [elected(values) for values in zip(*(trimmed(change, 0.6) for change in flattened), strict=True)]
        moved = torch.cat([(found[key] - origin[key]).flatten() for key in shapes])
        if stage:
            torch.testing.assert_close(moved, 0.5 * torch.tensor(merged), rtol=1e-5, atol=1e-6)
            assert 0 < sum(x == 0 for x in merged) < len(merged)
    assert torch.equal(record("origin", state.method_state)["l.lora_A.weight"], origin["l.lora_A.weight"])


def test_a_round_ends_with_the_merged_stages_and_the_next_starts_from_them():
    keys = {"fcit_method": "ties_merging", "fcit_stages": [["a"], ["b"]], "fcit_num_rounds": 1}
    toy = Toy(**keys)
    state = ServerState(SubspaceTokens(np.zeros((0, D), np.float32), np.zeros(0, np.int64)), noise(50, PROJECTOR))
    first = toy.round(state)
    drawn = record("origin", first.method_state)
    assert all(torch.equal(value, drawn[key]) for key, value in toy.program.fresh(0).items())
    assert all(torch.equal(value, record("stage-0", first.method_state)[key]) for key, value in first.subspaces[0].items())
    first = dataclasses.replace(first, stage=1, round=0)
    second = toy.round(first)
    trained = record("stage-1", second.method_state)
    assert any(not torch.equal(value, trained[key]) for key, value in second.subspaces[0].items())
    after = dataclasses.replace(second, subspaces=[trained], stage=1, round=0)
    (expected,) = toy.program.method.merged(after)
    assert all(torch.equal(value, expected[key]) for key, value in second.subspaces[0].items())


def test_a_client_of_replay_keeps_records_of_the_tasks_that_it_was_asked_to_train():
    schedule = [[0, 1], [1, 2], [2, 0]]
    scenario = get_scenario("custom", [["a"], ["b"], ["c"]], schedule)
    sizes = {"num_clients": 5, "per_round": 2, "num_rounds": 2, "seed": 4}
    for client in range(5):
        for stage in range(3):
            expected = set()
            for t in range(stage):
                for r in range(2):
                    sampled = sample_clients(5, 2, seed=4, stage=t, round=r)
                    expected |= {schedule[t][i] for i, c in enumerate(sampled) if c == client}
            assert earlier_tasks(scenario, **sizes, client=client, stage=stage) == sorted(expected)
    went_on = dataclasses.replace(scenario, first_stage=2)
    assert not any(earlier_tasks(went_on, **sizes, client=client, stage=2) for client in range(5))
    records = np.arange(100, 130)
    kept = kept_records(records, 7, seed=4, client=2, task=1)
    assert len(kept) == 7 and set(kept) <= set(records) and list(kept) == sorted(kept)
    assert np.array_equal(kept, kept_records(records, 7, seed=4, client=2, task=1))
    assert not np.array_equal(kept, kept_records(records, 7, seed=4, client=3, task=1))
    assert np.array_equal(kept_records(records, 99, seed=4, client=2, task=1), records)
