"""LoRA aggregation in whole rounds, against the formulas written out with dense matrices."""

import numpy as np
import pytest
import torch
from toy import BLANK, PROJECTOR, D, Toy, bits, start

from fcit_plugin.adapters.aggregation import AggregationResult, Exact, LoraAggregation, Member, Refactor, Svd, product_error
from fcit_plugin.adapters.base_change import change_of
from fcit_plugin.adapters.lora_aggregations import LORA_AGGREGATIONS
from fcit_plugin.arguments import FcitArguments
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.messages import ARRAYS, BASE, METRICS, NUM_EXAMPLES, SHARED, config_of, num_bytes, to_state
from fcit_plugin.federation.server import first_state
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.server_state import save_state

A, B = "l.lora_A.weight", "l.lora_B.weight"


class Recorded(Toy):
    """A toy federation of one subspace for all that keeps what travels."""

    def __init__(self, **changes):
        super().__init__(on_reply=self.record, **{"fcit_method": "sequential", **changes})
        self.pairs = []

    def record(self, request, reply):
        if ARRAYS in reply.content:
            self.pairs.append((request, reply))

    def round(self, state=None):
        self.pairs.clear()
        return super().round(state)

    def products(self, k=0):
        """p_c, A_c, B_c of the last round's clients of a subspace, float64; a factor that did not come back is the one sent."""
        found = []
        for request, reply in self.pairs:
            if config_of(request).subspace == k:
                factors = {**to_state(request.content[ARRAYS]), **to_state(reply.content[ARRAYS])}
                found.append((reply.content[METRICS][NUM_EXAMPLES], factors[A].double(), factors[B].double()))
        n = sum(part[0] for part in found)
        return [(part[0] / n, *part[1:]) for part in found]

    def mean_product(self, k=0):
        return sum(p * b @ a for p, a, b in self.products(k))


def toy_of(name, **changes):
    return Recorded(fcit_lora_aggregation=name, **changes)


def product(state, k=0):
    return state.subspaces[k][B].double() @ state.subspaces[k][A].double()


def error(toy, state, k=0):
    wanted = toy.mean_product(k)
    return ((product(state, k) - wanted).norm() / wanted.norm()).item()


def test_factors_are_averaged_apart_and_their_error_is_that_of_the_dense_products():
    toy = toy_of("factors")
    state = toy.round()
    for key, place in ((A, 1), (B, 2)):
        expected = sum(part[0] * part[place] for part in toy.products())
        torch.testing.assert_close(state.subspaces[0][key].double(), expected, rtol=1e-6, atol=1e-6)
    assert toy.heard.errors == [{0: pytest.approx(error(toy, state), rel=1e-6)}]
    assert error(toy, state) > 0.1


def test_factors_are_the_default():
    assert bits(toy_of("factors").round()) == bits(Recorded().round())


def test_the_error_of_every_subspace_is_measured_apart():
    toy = Recorded(fcit_method="disco")
    state = toy.round(start())
    errors = toy.heard.errors[0]
    assert set(errors) == {config_of(request).subspace for request, _ in toy.pairs} and len(errors) > 3
    for k, found in errors.items():
        assert found == pytest.approx(error(toy, state, k), rel=1e-5, abs=1e-6)


def test_ffa_never_moves_a_and_is_exact():
    toy = toy_of("ffa")
    fresh, state = toy.program.fresh(0), first_state(D, PROJECTOR)
    for _ in range(3):
        state = toy.round(state)
        assert torch.equal(state.subspaces[0][A], fresh[A])
        assert error(toy, state) < 1e-6 and toy.heard.errors[-1][0] < 1e-6
    assert state.subspaces[0][B].abs().sum() > 1


def test_rotate_trains_b_then_a_and_is_exact():
    toy = toy_of("rotate", fcit_num_rounds=9)
    before, state = toy.program.fresh(0), first_state(D, PROJECTOR)
    for number in range(4):
        state = toy.round(state)
        moved, kept = (B, A) if number % 2 == 0 else (A, B)
        after = state.subspaces[0]
        assert torch.equal(after[kept], before[kept]) and not torch.equal(after[moved], before[moved])
        assert error(toy, state) < 1e-6 and toy.heard.errors[-1][0] < 1e-6
        assert state.rounds == {0: number + 1}
        before = after


def test_a_subspace_that_opens_late_or_rests_takes_its_turns_by_its_own_rounds():
    toy = Recorded(fcit_method="disco", fcit_lora_aggregation="rotate", fcit_num_rounds=9)
    everyone = toy.program.work
    asked = [{0, 2}, {0, 1}, {0, 2, 3}]  # of subspaces 0 and 1; 0; 0, 1 and a new one
    trained = []
    state = start()
    for clients in asked:
        toy.program.work = lambda *at, clients=clients: {c: config for c, config in everyone(*at).items() if c in clients}
        state = toy.round(state)
        trained.append({config_of(request).subspace: config_of(request).trains for request, _ in toy.pairs})
    assert trained == [{0: "B", 1: "B"}, {0: "A"}, {0: "B", 1: "A", 2: "B"}]


@pytest.mark.parametrize(
    ("name", "factors"), [("factors", "AB"), ("ffa", "B"), ("rotate", "B"), ("refactor", "AB"), ("svd", "AB"), ("exact", "AB")]
)
def test_what_is_not_trained_goes_down_and_does_not_come_back(name, factors):
    toy = toy_of(name)
    toy.round(start())
    for request, reply in toy.pairs:
        assert set(request.content[ARRAYS]) == {A, B}
        assert set(reply.content[ARRAYS]) == {f"l.lora_{factor}.weight" for factor in factors}
        assert set(reply.content[SHARED]) == set(request.content[SHARED])
        kept = sum(len(request.content[ARRAYS][key].data) for key in (A, B) if key not in reply.content[ARRAYS])
        token = 128 + 4 * 6
        assert num_bytes(reply) == num_bytes(request) - kept + token


def test_svd_is_the_best_of_rank_r_and_as_long_in_a_as_the_clients():
    toy = toy_of("svd")
    state = toy.round(start())
    wanted = toy.mean_product()
    u, s, vt = torch.linalg.svd(wanted)
    torch.testing.assert_close(product(state), u[:, :2] * s[:2] @ vt[:2], rtol=1e-5, atol=1e-6)
    assert toy.heard.errors[0][0] == pytest.approx((s[2:].norm() / s.norm()).item(), rel=1e-4)
    factors = state.subspaces[0]
    length = sum(p * a.square().sum() / 2 for p, a, _ in toy.products())
    torch.testing.assert_close(factors[A].double() @ factors[A].double().T, torch.eye(2, dtype=torch.float64) * length)
    gram = (factors[B].T @ factors[B]).double()
    torch.testing.assert_close(gram, torch.diag(s[:2] ** 2 / length), rtol=1e-4, atol=1e-5)


def test_svd_is_never_farther_from_the_mean_product_than_the_factors():
    for seed in range(5):
        members = three(seed)
        averaged = {key: sum(m.share * m.factors[key] for m in members) for key in BLANK}
        found = Svd().combine(BLANK, averaged, members, BLANK)
        assert product_error(found, members) < product_error(AggregationResult(averaged), members)


def three(seed, b=1.0):
    generator = torch.Generator().manual_seed(seed)
    drawn = [{key: torch.randn(value.shape, generator=generator) for key, value in BLANK.items()} for _ in range(3)]
    return [Member(share, {A: one[A], B: b * one[B]}) for share, one in zip((0.5, 0.3, 0.2), drawn, strict=True)]


def test_refactor_keeps_the_product_of_the_mean_factors_and_makes_the_rows_of_a_orthogonal_and_of_one_length():
    members = three(2)
    averaged = {key: sum(m.share * m.factors[key] for m in members) for key in BLANK}
    found = Refactor().combine(BLANK, averaged, [], BLANK).subspace  # it asks no client, as in a secure sum
    torch.testing.assert_close(found[B] @ found[A], averaged[B] @ averaged[A])
    length = averaged[A].square().sum() / 2
    torch.testing.assert_close(found[A] @ found[A].T, torch.eye(2) * length)
    s = torch.linalg.svdvals(averaged[B] @ averaged[A])[:2]
    torch.testing.assert_close(found[B].T @ found[B], torch.diag(s**2 / length))


@pytest.mark.parametrize("noise", [{}, {"fcit_dp_clipping_norm": 1.0, "fcit_dp_noise_multiplier": 1.0}])
def test_a_round_of_refactor_does_what_one_of_factors_does_also_with_noise(noise):
    """One round alone: clients that train other factors do not get to the same product."""
    plain, new = (toy_of(name, **noise).round(start()) for name in ("factors", "refactor"))
    torch.testing.assert_close(product(new), product(plain), rtol=1e-5, atol=1e-5)
    assert not torch.equal(new.subspaces[0][A], plain.subspaces[0][A])


def test_refactor_of_one_client_is_svd_of_it():
    """Where a round has one client of a subspace the mean of products is its product, and both give it the same factors."""
    (member, *_) = three(3)
    alone = [Member(1.0, member.factors)]
    new, best = Refactor().combine(BLANK, member.factors, [], BLANK), Svd().combine(BLANK, {}, alone, BLANK)
    assert all(torch.equal(new.subspace[key], best.subspace[key]) for key in (A, B))


def test_svd_leaves_no_direction_dead_where_the_clients_have_learned_nothing():
    members = three(0, b=0.0)
    found = Svd().combine(BLANK, BLANK, members, BLANK)
    assert not found.subspace[B].any() and product_error(found, members) == 0.0
    assert torch.linalg.matrix_rank(found.subspace[A]) == 2


def test_svd_of_a_rank_above_the_layers_width_is_padded_and_exact():
    generator = torch.Generator().manual_seed(1)
    shapes = {A: (5, 3), B: (4, 5)}
    drawn = [{key: torch.randn(shape, generator=generator) for key, shape in shapes.items()} for _ in range(2)]
    members = [Member(0.5, one) for one in drawn]
    found = Svd().combine(drawn[0], drawn[0], members, drawn[0])
    assert {key: tuple(value.shape) for key, value in found.subspace.items()} == shapes
    assert product_error(found, members) < 1e-6


def acts(state):
    """What a subspace does beside the base model: its product, and what was added to the base weights."""
    return product(state) + (change_of(state.base, "l").double() if state.base else 0)


@pytest.mark.parametrize("name", ["exact", "stack"])
def test_what_the_factors_lack_goes_into_the_base_weights_round_after_round(name):
    toy, state = toy_of(name, fcit_num_rounds=9), first_state(D, PROJECTOR)
    for number in range(4):
        before = state
        state = toy.round(before)
        grew = change_of(before.base, "l").double() if before.base else 0
        torch.testing.assert_close(acts(state), grew + toy.mean_product(), rtol=1e-5, atol=1e-4)
        assert toy.heard.errors[-1][0] < 1e-6
        for request, _ in toy.pairs:
            assert (BASE in request.content) == (number > 0)
            if number:
                sent = to_state(request.content[BASE])
                assert sent.keys() == before.base.keys() and all(torch.equal(sent[key], before.base[key]) for key in sent)


def test_exact_goes_on_from_the_mean_factors_and_stack_from_new_ones():
    exact, factors, stack = (toy_of(name) for name in ("exact", "factors", "stack"))
    one, other = exact.round(start()), factors.round(start())
    torch.testing.assert_close(one.subspaces[0], other.subspaces[0])
    drawn = []
    state = start()
    for _ in range(2):
        state = stack.round(state)
        assert not state.subspaces[0][B].any()
        drawn.append(state.subspaces[0][A])
    assert not torch.equal(*drawn) and all(0.1 < a.std() < 1 for a in drawn)


def test_exact_leaves_the_base_weights_of_one_client_alone():
    toy = toy_of("exact", without=[0, 1, 2, 4, 5, 6])
    state = toy.round(start())
    assert state.base == {} and toy.heard.errors[0][0] < 1e-6


def test_the_residual_of_n_clients_has_rank_n_minus_1_times_r():
    generator = torch.Generator().manual_seed(2)
    shapes = {A: (2, 30), B: (40, 2)}
    drawn = [{key: torch.randn(shape, generator=generator) for key, shape in shapes.items()} for _ in range(3)]
    members = [Member(share, one) for share, one in zip((0.5, 0.3, 0.2), drawn, strict=True)]
    found = Exact().combine(drawn[0], drawn[0], members, drawn[0])
    left, right = found.base["l"]
    assert (left.shape, right.shape) == ((40, 4), (4, 30))
    assert torch.linalg.matrix_rank(left @ right) == 4
    mean = {key: sum(m.share * m.factors[key].double() for m in members) for key in shapes}
    wanted = sum(m.share * m.factors[B].double() @ m.factors[A].double() for m in members)
    torch.testing.assert_close(mean[B] @ mean[A] + left @ right, wanted)


@pytest.mark.parametrize("name", LORA_AGGREGATIONS)
def test_replies_in_any_order_and_a_state_from_a_folder_give_the_same_bits(name, tmp_path):
    toy, carried = toy_of(name, fcit_num_rounds=9), toy_of(name, fcit_num_rounds=9)
    send = carried.grid.send_and_receive
    carried.grid.send_and_receive = lambda messages: reversed(list(send(messages)))
    state = other = None
    for number in range(3):
        state = toy.round(state)
        save_state(carried.round(other), tmp_path / str(number), {}, {})
        other = StateFolder(tmp_path / str(number)).load()
        assert bits(other) == bits(state)


@pytest.mark.parametrize("name", ["ffa", "rotate"])
@pytest.mark.parametrize("rule", ["fedavgm", "fedadam", "fedadagrad", "fedmedian", "krum"])
def test_server_rules_work_on_the_factors_that_are_trained(name, rule):
    toy, state, memory = toy_of(name, fcit_server_rule=rule, fcit_num_rounds=9), start(), {A: {}, B: {}}
    for number in range(4):
        trained, before = A if name == "rotate" and number % 2 else B, state
        state = toy.round(state)
        replies = [to_state(reply.content[ARRAYS])[trained].double().numpy() for _, reply in toy.pairs]
        sizes = [reply.content[METRICS][NUM_EXAMPLES] for _, reply in toy.pairs]
        expected = by_hand(rule, before.subspaces[0][trained].double().numpy(), replies, sizes, memory[trained])
        np.testing.assert_allclose(state.subspaces[0][trained].numpy(), expected, rtol=1e-4, atol=1e-5)


def by_hand(rule, x, replies, n, memory):
    """One step of a server rule with its default parameters."""
    mean = np.average(replies, axis=0, weights=n)
    if rule == "fedmedian":
        return np.median(replies, axis=0)
    if rule == "krum":
        malicious = 2
        near = len(replies) - malicious - 2
        score = [
            sum(sorted(((a - b) ** 2).sum() for j, b in enumerate(replies) if j != i)[:near]) for i, a in enumerate(replies)
        ]
        return replies[int(np.argmin(score))]
    if rule == "fedavgm":
        memory["v"] = 0.9 * memory.get("v", 0) + x - mean
        return x - memory["v"]
    t = memory["t"] = memory.get("t", 0) + 1
    delta = mean - x
    if rule == "fedadagrad":
        memory["v"] = memory.get("v", 0) + delta**2
        return x + 1e-3 * delta / (np.sqrt(memory["v"]) + 1e-3)
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * delta
    memory["v"] = 0.99 * memory.get("v", 0) + 0.01 * delta**2
    rate = 1e-3 * np.sqrt(1 - 0.99 ** (t + 1)) / (1 - 0.9 ** (t + 1))
    return x + rate * memory["m"] / (np.sqrt(memory["v"]) + 1e-3)


def test_a_client_that_returns_a_factor_it_was_not_to_train_is_left_out():
    def also_a(app):
        def wrapped(message, context):
            reply = app(message, context)
            if ARRAYS in reply.content and config_of(message).client == 2:
                reply.content[ARRAYS] = message.content[ARRAYS]
            return reply

        return wrapped

    toy = toy_of("ffa", wrap=also_a)
    toy.round()
    assert [row["client"] for row in toy.heard.dropped] == [2]
    assert f"it returns arrays/{A}, which was not to be trained" in toy.heard.dropped[0]["reason"]


def test_clipping_takes_only_what_is_trained_into_the_norm():
    toy = toy_of("ffa", fcit_dp_clipping_norm=1e-3)
    before = start()
    state = toy.round(before)
    moved = (state.subspaces[0][B] - before.subspaces[0][B]).norm()
    assert 0 < moved <= 1e-3 * 1.001 and torch.equal(state.subspaces[0][A], before.subspaces[0][A])


def test_noise_hides_the_error_too():
    toy = toy_of("rotate", fcit_dp_clipping_norm=1.0, fcit_dp_noise_multiplier=0.5)
    before = start()
    state = toy.round(before)
    assert toy.heard.errors == [{}]
    assert torch.equal(state.subspaces[0][A], before.subspaces[0][A])


class Halved(LoraAggregation):
    def combine(self, start, averaged, members, fresh):
        return AggregationResult({key: value / 2 for key, value in averaged.items()})


def test_a_registered_aggregation_is_a_value_of_the_key(register):
    class Plugin:
        @hookimpl
        def fcit_lora_aggregations(self):
            return {"halved": Halved}

    register(Plugin())
    halved, plain = toy_of("halved").round(start()), toy_of("factors").round(start())
    assert all(torch.equal(halved.subspaces[0][key] * 2, plain.subspaces[0][key]) for key in (A, B))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"fcit_lora_aggregation": "faa"}, ["`fcit_lora_aggregation` is 'faa'", "`ffa`"]),
        ({"fcit_lora_aggregation": "svd", "fcit_server_rule": "fedadam"}, ["svd", "fedadam", "fedavg or fedprox"]),
        ({"fcit_lora_aggregation": "svd", "fcit_server_rule": "krum"}, ["svd", "krum", "single numbers"]),
        (
            {"fcit_lora_aggregation": "svd", "fcit_dp_clipping_norm": 1.0, "fcit_dp_noise_multiplier": 1.0},
            ["`fcit_dp_noise_multiplier`", "each client's own product"],
        ),
        ({"fcit_lora_aggregation": "svd", "fcit_server_rule": "scaffold"}, ["svd", "scaffold"]),
        ({"fcit_lora_aggregation": "refactor", "fcit_server_rule": "fedadam"}, ["refactor", "fedadam", "remembers", "or krum"]),
        ({"fcit_lora_aggregation": "refactor", "fcit_method": "ewc"}, ["`fcit_method: ewc` holds single numbers", "refactor"]),
        ({"fcit_lora_aggregation": "refactor", "fcit_method": "moe_lora"}, ["`fcit_method: moe_lora` weighs parts"]),
        ({"fcit_lora_aggregation": "svd", "fcit_method": "ewc"}, ["`fcit_method: ewc` holds single numbers", "svd"]),
        ({"fcit_lora_aggregation": "svd", "fcit_method": "moe_lora"}, ["`fcit_method: moe_lora` weighs parts", "svd"]),
        ({"fcit_lora_aggregation": "exact", "fcit_method": "disco"}, ["several subspaces", "`fcit_lora_aggregation: exact`"]),
        ({"fcit_lora_aggregation": "stack", "fcit_method": "o_lora"}, ["several subspaces", "stack"]),
        ({"fcit_lora_aggregation": "exact", "fcit_method": "lwf"}, ["lwf", "not the base weights"]),
        ({"fcit_lora_aggregation": "stack", "fcit_method": "ewc"}, ["ewc", "basis"]),
        (
            {"fcit_lora_aggregation": "stack", "fcit_method": "sequential", "fcit_server_rule": "scaffold"},
            ["stack", "scaffold"],
        ),
        (
            {"fcit_lora_aggregation": "exact", "fcit_method": "sequential", "fcit_server_rule": "fedadam"},
            ["fedprox or scaffold"],
        ),
        ({"fcit_lora_aggregation": "ffa", "fcit_method": "moe_lora"}, ["moe_lora", "not trained", "ffa"]),
        ({"fcit_lora_aggregation": "ffa", "fcit_method": "o_lora"}, ["o_lora", "not trained", "ffa"]),
    ],
)
def test_what_does_not_go_together_is_refused(keys, words):
    with pytest.raises(FcitError) as caught:
        FcitArguments(**keys)
    assert all(word in str(caught.value) for word in words), caught.value
