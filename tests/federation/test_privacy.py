"""Differential privacy: exact clipping, noise of the right size and nowhere else, and epsilon against other computations."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType, MetricRecord, RecordDict
from scipy.optimize import brentq
from scipy.special import comb, logsumexp
from scipy.stats import kstest, norm
from toy import BLANK, PROJECTOR, Toy, bits, noise, start

from fcit_plugin.federation.messages import (
    ARRAYS,
    METRICS,
    NUM_EXAMPLES,
    SHARED,
    ClientConfig,
    config_of,
    to_record,
    to_state,
    update_reply,
)
from fcit_plugin.federation.noise import SecretNoise, SimulatedNoise
from fcit_plugin.federation.privacy import UpdatePrivacy, digest_of_records, noisy_token
from fcit_plugin.knowledge.identity_tokens import ClientToken

accounting = pytest.importorskip("fcit_plugin.federation.accounting")
pytest.importorskip("dp_accounting")

KEYS = {"fcit_dp_clipping_norm": 2.0}


# clipping


def exchanged(moved):
    """A request and a reply whose every number moved by ``moved``."""
    sent, shared = noise(0, BLANK), noise(1, PROJECTOR)
    content = RecordDict(
        {"config": ClientConfig("r", 0, 0, 4, 0).to_record(), ARRAYS: to_record(sent), SHARED: to_record(shared)}
    )
    request = Message(content, dst_node_id=4, message_type=MessageType.TRAIN)
    token = ClientToken(4, np.ones(3, np.float32), 9, 70)
    trained = [{key: value + moved for key, value in part.items()} for part in (sent, shared)]
    return request, update_reply(request, *trained, token, 0.5)


def change(request, reply):
    return torch.cat(
        [
            (to_state(reply.content[name])[key].double() - to_state(request.content[name])[key].double()).flatten()
            for name in (ARRAYS, SHARED)
            for key in sorted(request.content[name])
        ]
    )


@pytest.mark.parametrize("moved", [0.5, -3.0, 1e4])
def test_an_update_is_scaled_down_to_the_norm_over_all_its_tensors_together(moved):
    request, reply = exchanged(moved)
    clipped = UpdatePrivacy(2.0, 0.0, None).clip(reply, request)
    before, after = change(request, reply), change(request, clipped)
    assert before.norm() > 2
    assert after.norm().item() == pytest.approx(2.0, rel=1e-5)
    torch.testing.assert_close(after, before * 2 / before.norm(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_an_update_within_the_norm_keeps_its_bits_even_if_it_is_none(moved):
    request, reply = exchanged(moved)
    clipped = UpdatePrivacy(2.0, 0.0, None).clip(reply, request)
    assert torch.equal(change(request, clipped), change(request, reply))


def test_the_weight_of_a_clipped_reply_is_1_and_the_reply_itself_is_left_alone():
    request, reply = exchanged(3.0)
    clipped = UpdatePrivacy(2.0, 0.0, None).clip(reply, request)
    assert (clipped.content[METRICS][NUM_EXAMPLES], reply.content[METRICS][NUM_EXAMPLES]) == (1, 70)
    assert change(request, reply).abs().min() > 2.9
    assert clipped.metadata.src_node_id == 4


class Recorded(Toy):
    """A toy federation that keeps what clients were sent and sent back, in the order of their numbers."""

    def __init__(self, **changes):
        super().__init__(on_reply=self.record, **changes)
        self.pairs = []

    def record(self, request, reply):
        if ARRAYS in reply.content:
            self.pairs.append((request, reply))


def test_a_round_with_clipping_alone_is_the_plain_mean_of_clipped_updates():
    toy, before = Recorded(**KEYS), start()
    after = toy.round(before)
    clipped = {}
    for request, reply in toy.pairs:
        update = change(request, reply)
        clipped[config_of(request).client] = update * min(1, 2 / update.norm().item())
    sizes = [BLANK[key].numel() for key in sorted(BLANK)]
    owner = {row["client"]: row["subspace"] for row in toy.heard.rows}
    assert all(value.norm() > 1.99 for value in clipped.values())
    for k in range(2):
        mean = torch.stack([value for client, value in clipped.items() if owner[client] == k]).mean(dim=0)
        for key, part in zip(sorted(BLANK), mean[: sum(sizes)].split(sizes), strict=True):
            expected = before.subspaces[k][key].double() + part.view(BLANK[key].shape)
            torch.testing.assert_close(after.subspaces[k][key].double(), expected, rtol=0, atol=1e-6)
    mean = torch.stack(list(clipped.values())).mean(dim=0)[sum(sizes) :]
    torch.testing.assert_close(
        after.shared["projector.weight"].double(), before.shared["projector.weight"] + mean, rtol=0, atol=1e-6
    )


# noise


def differences(**keys):
    """What the noise adds in a round, by owner, as numbers of standard deviation 1, and how many clients it hides."""
    plain, noisy = Toy(**KEYS).round(), Toy(**KEYS, **keys)
    after = noisy.round()
    members = {}
    for row in noisy.heard.rows:
        members[row["subspace"]] = members.get(row["subspace"], 0) + 1
    found = {}
    for owner, count in [*members.items(), ("shared", sum(members.values()))]:
        one, two = ((s.shared if owner == "shared" else s.subspaces[owner]) for s in (plain, after))
        scale = 2.0 * keys["fcit_dp_noise_multiplier"] / count
        found[owner] = torch.cat([((two[key] - one[key]) / scale).flatten() for key in sorted(one)]).numpy()
    return found


def test_noise_is_normal_with_z_c_over_the_number_of_clients_in_every_subspace():
    runs = [differences(fcit_dp_noise_multiplier=300.0, fcit_dp_secret=secret) for secret in range(60)]
    for owner in runs[0]:
        numbers = np.concatenate([run[owner] for run in runs])
        assert len(numbers) >= 300
        assert kstest(numbers, "norm").pvalue > 1e-4, owner
        assert numbers.std() == pytest.approx(1, abs=5 / math.sqrt(2 * len(numbers)))
    flat = np.array([np.concatenate([run[owner] for owner in sorted(run, key=str)]) for run in runs])
    correlation = np.corrcoef(flat.T)[np.triu_indices(flat.shape[1], 1)]
    assert np.abs(correlation).mean() < 1.2 * math.sqrt(2 / math.pi / len(runs)), "as of independent numbers"


def test_noise_depends_on_secret_stage_round_owner_and_deviation_and_is_the_same_again():
    one = differences(fcit_dp_noise_multiplier=1.0, fcit_dp_secret=5)
    again = differences(fcit_dp_noise_multiplier=1.0, fcit_dp_secret=5)
    others = [differences(fcit_dp_noise_multiplier=z, fcit_dp_secret=s) for z, s in ((3.0, 5), (1.0, 6))]
    for owner in one:
        assert np.array_equal(one[owner], again[owner])
        assert all(np.abs(one[owner] - other[owner]).max() > 0.1 for other in others)
    assert np.abs(one[0] - one[1]).max() > 0.1
    made, request = UpdatePrivacy(1.0, 1.0, SecretNoise.of_number("5")), exchanged(0.0)[0]
    released = [
        to_state(made.release([request], request, ARRAYS, stage, round, owner).content[ARRAYS])["l.lora_A.weight"]
        for stage, round, owner in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, "shared"), (0, 1, "shared"))
    ]
    assert len({value.numpy().tobytes() for value in released}) == len(released)


@pytest.mark.parametrize("how", ["fewer clients", "another update", "another deviation"])
def test_two_results_of_one_round_do_not_tell_what_has_changed(how):
    """Of equal noise the difference would be free, and one client's update stand there bare."""
    noises, blank = SecretNoise(b"u" * 32, b"t" * 32), {"a": torch.zeros(100, 100)}
    content = RecordDict({"config": ClientConfig("r", 0, 3, 0, 0).to_record(), ARRAYS: to_record(blank)})
    request = Message(content, dst_node_id=0, message_type=MessageType.TRAIN)

    def part(client):
        moved = {"a": 0.01 * noise(client, blank)["a"]}
        told = MetricRecord({NUM_EXAMPLES: 1})
        return Message(RecordDict({ARRAYS: to_record(moved), METRICS: told}), reply_to=request)

    def total(parts, deviation=1.0):
        """What the released mean comes to, as a sum in the noise's deviations."""
        found = UpdatePrivacy(1.0, deviation, noises).release(parts, request, ARRAYS, 0, 3, 0)
        return found.content[ARRAYS]["a"].numpy().astype(np.float64).ravel() * len(parts) / deviation

    clients = [*map(part, range(4))]
    assert np.array_equal(total(clients), total(clients))
    other = {
        "fewer clients": lambda: total(clients[:3]),
        "another update": lambda: total([*clients[:3], part(9)]),
        "another deviation": lambda: total(clients, 2.0),
    }[how]()
    difference = total(clients) - other
    assert difference.std() == pytest.approx(math.sqrt(2), rel=0.05), "of two independent draws"


def test_runs_with_noise_are_deterministic_and_no_secret_gives_what_the_seed_gives():
    keys = {**KEYS, "fcit_dp_noise_multiplier": 0.5}
    runs = {secret: bits(Toy(**keys, fcit_dp_secret=secret).round()) for secret in (None, 3, 4)}  # 3 is the toy's seed
    assert all(bits(Toy(**keys, fcit_dp_secret=secret).round()) == run for secret, run in runs.items())
    assert runs[None] != runs[3] != runs[4] != runs[None]


def test_simulated_noise_has_the_bits_that_it_always_had():
    """As NumPy draws them for the run's seed (3), what they are for (2: updates), stage, round and owner."""
    toy, before = Recorded(**KEYS, fcit_dp_noise_multiplier=0.5), start()
    after = toy.round(before)
    owner = {row["client"]: row["subspace"] for row in toy.heard.rows}
    clip = UpdatePrivacy(2.0, 0.0, None).clip
    replies = {config_of(request).client: clip(reply, request) for request, reply in toy.pairs}
    for k in range(2):
        drawn = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(2, 0, 0, 0, k)))
        own = [to_state(reply.content[ARRAYS]) for client, reply in sorted(replies.items()) if owner[client] == k]
        for key in sorted(BLANK):
            mean = np.mean([state[key].numpy() for state in own], axis=0, dtype=np.float64)
            expected = (mean + drawn.normal(0.0, 0.5 * 2.0 / len(own), mean.shape)).astype(np.float32)
            assert after.subspaces[k][key].numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("rule", ["fedavgm", "fedadam"])
def test_a_servers_optimizer_sees_the_noisy_mean_as_one_reply(rule):
    keys = {**KEYS, "fcit_dp_noise_multiplier": 0.5}
    mean = Toy(**keys).round()
    after = Toy(**keys, fcit_server_rule=rule).round()
    before = start()
    for key in BLANK:
        x, delta = before.subspaces[0][key].double(), (mean.subspaces[0][key] - before.subspaces[0][key]).double()
        if rule == "fedavgm":
            expected = x + delta
        else:
            eta = 1e-3 * math.sqrt(1 - 0.99**2) / (1 - 0.9**2)
            expected = x + eta * 0.1 * delta / ((0.01 * delta**2).sqrt() + 1e-3)
        torch.testing.assert_close(after.subspaces[0][key].double(), expected, rtol=1e-4, atol=1e-6)


# identity tokens


def test_a_noisy_token_is_the_direction_with_noise_and_the_same_whenever_it_is_asked_for():
    mean = np.arange(1, 400, dtype=np.float32)
    direction = mean / np.linalg.norm(mean)
    wheres = [(c, t, r) for c in range(4) for t in range(3) for r in (0, 2**63 - 1)]
    tokens = {where: noisy_token(mean, 0.2, SimulatedNoise(7), *where) for where in wheres}
    numbers = np.concatenate([(token - direction) / 0.2 for token in tokens.values()])
    assert kstest(numbers, "norm").pvalue > 1e-4
    assert len({token.tobytes() for token in tokens.values()}) == len(tokens)
    assert all(
        noisy_token(mean, 0.2, SimulatedNoise(7), *where).tobytes() == token.tobytes() for where, token in tokens.items()
    )
    assert noisy_token(1000 * mean, 0.2, SimulatedNoise(7), 0, 0, 0) == pytest.approx(tokens[0, 0, 0], abs=1e-6), (
        "only the direction counts"
    )
    assert np.abs(noisy_token(mean, 0.2, SimulatedNoise(8), 0, 0, 0) - tokens[0, 0, 0]).max() > 0.1
    assert tokens[0, 0, 0].dtype == np.float32


# accounting


def exact(multiplier, delta):
    """Epsilon of one Gaussian release: Balle and Wang 2018 (arXiv 1805.06530), theorem 8, solved for epsilon."""

    def excess(epsilon):
        below, above = 1 / (2 * multiplier) - epsilon * multiplier, -1 / (2 * multiplier) - epsilon * multiplier
        return norm.cdf(below) - math.exp(epsilon + norm.logcdf(above)) - delta

    return brentq(excess, 0, 1e4)


def by_renyi(curve, delta):
    """The least epsilon over the orders, with the conversion of Canonne et al. 2020 (arXiv 2004.00010), proposition 12."""
    orders = np.concatenate([np.linspace(1.02, 10, 2000), np.arange(11, 600)])
    rdp = np.array([curve(a) for a in orders])
    return (rdp + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)).min()


@pytest.mark.parametrize(("multiplier", "count"), [(1.0, 1), (1.0, 16), (4.0, 80), (0.5, 3), (10.0, 1)])
def test_epsilon_of_gaussian_releases_is_a_bound_near_the_exact_one(multiplier, count):
    found = accounting.gaussian_epsilon([(multiplier, count)], 1e-5)
    least = exact(multiplier / math.sqrt(count), 1e-5)
    assert least <= found <= 1.2 * least
    assert found == pytest.approx(by_renyi(lambda a: count * a / (2 * multiplier**2), 1e-5), rel=0.02)


def test_releases_of_different_noise_add_up_like_one_with_the_harmonic_sum_of_squares():
    together = accounting.gaussian_epsilon([(2.0, 3), (5.0, 2)], 1e-6)
    alone = accounting.gaussian_epsilon([((3 / 4 + 2 / 25) ** -0.5, 1)], 1e-6)
    assert together == pytest.approx(alone, rel=1e-9)


def test_published_value_of_a_single_gaussian_release():
    """The classical mechanism: sigma = sqrt(2 ln(1.25 / delta)) / epsilon is private (Dwork and Roth 2014, A.1)."""
    sigma = math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.9
    assert accounting.gaussian_epsilon([(sigma, 1)], 1e-5) < 0.9


def theorem_27(q, sigma, alpha):
    """Wang et al. 2019 (arXiv 1808.00087), theorem 27, for the Gaussian mechanism (without the ternary refinement)."""

    def rdp(a):
        return a / (2 * sigma**2)

    terms = [
        0.0,
        math.log(comb(alpha, 2)) + 2 * math.log(q) + min(math.log(4) + math.log(math.expm1(rdp(2))), rdp(2) + math.log(2)),
    ]
    terms += [math.log(2) + math.log(comb(alpha, j)) + j * math.log(q) + (j - 1) * rdp(j) for j in range(3, alpha + 1)]
    return logsumexp(terms) / (alpha - 1)


@pytest.mark.parametrize(("z", "sampled", "population", "rounds"), [(4.0, 5, 50, 10), (6.0, 10, 1000, 100)])
def test_epsilon_of_sampled_rounds_is_no_more_than_the_theorem_and_no_more_than_without_sampling(
    z, sampled, population, rounds
):
    found = accounting.sampled_epsilon(z, sampled, population, rounds, 1e-5)
    orders = range(2, 64)
    bound = min(
        rounds * theorem_27(sampled / population, z / 2, a) + math.log1p(-1 / a) - math.log(1e-5 * a) / (a - 1) for a in orders
    )
    assert 0.7 * bound < found <= bound * 1.0001
    assert found < exact(z / 2 / math.sqrt(rounds), 1e-5)


def test_everyone_sampled_is_no_sampling_at_all():
    found = accounting.sampled_epsilon(2.0, 7, 7, 5, 1e-5)
    assert found == pytest.approx(accounting.gaussian_epsilon([(1.0, 5)], 1e-5), rel=1e-6)


def test_the_report_counts_the_rounds_of_the_client_who_took_part_most_and_its_tokens_once_for_each_task():
    args = Toy(
        fcit_dp_clipping_norm=1.0, fcit_dp_noise_multiplier=3.0, fcit_identity_noise=0.5, fcit_clients_per_round=2
    ).program.args
    took_part = [(0, 0, 1, "a"), (0, 0, 2, "a"), (0, 1, 1, "a"), (0, 1, 3, "a"), (1, 0, 1, "b"), (1, 0, 2, "b"), (1, 1, 2, "a")]
    rows = [dict(zip(("stage", "round", "client", "task"), row, strict=True)) for row in took_part]
    found = accounting.spent(args, rows, [], num_stages=3)
    assert (found["clipping_norm"], found["noise_multiplier"], found["identity_noise"], found["delta"]) == (1.0, 3.0, 0.5, 1e-5)
    assert found["noise"] == "simulated"
    assert accounting.spent(replace(args, fcit_dp_secret=2**60 + 1), rows, [], num_stages=3)["noise"] == "secret"
    updates, tokens = (3.0, 0.5)
    for part, rounds, kinds in ((found["stages"][0], 2, 1), (found["stages"][1], 2, 2), (found["total"], 3, 2)):
        assert part["epsilon_updates"] == accounting.gaussian_epsilon([(updates, rounds)], 1e-5)
        assert part["epsilon_tokens"] == accounting.gaussian_epsilon([(tokens, kinds)], 1e-5)
        assert part["epsilon"] == accounting.gaussian_epsilon([(updates, rounds), (tokens, kinds)], 1e-5)
    assert found["stages"][0]["epsilon_sampled"] == accounting.sampled_epsilon(3.0, 2, 7, 2, 1e-5)
    assert found["total"]["epsilon_sampled"] == accounting.sampled_epsilon(3.0, 2, 7, 4, 1e-5)
    assert found["stages"][2]["epsilon"] == found["stages"][2]["epsilon_updates"] == 0.0


def test_a_token_is_spent_whether_or_not_the_update_behind_it_was_used():
    args = Toy(fcit_dp_clipping_norm=1.0, fcit_dp_noise_multiplier=3.0, fcit_identity_noise=0.5).program.args
    rows = [{"stage": 0, "round": 0, "client": 1, "task": "a"}]
    asked = [
        {"stage": 0, "client": 1, "task": "a"},
        {"stage": 1, "client": 1, "task": "b"},
        {"stage": 1, "client": 2, "task": "b"},
    ]
    found = accounting.spent(args, rows, asked, num_stages=2)
    assert found["stages"][0]["epsilon_tokens"] == accounting.gaussian_epsilon([(0.5, 1)], 1e-5)
    assert (
        found["stages"][1]["epsilon"] == found["stages"][1]["epsilon_tokens"] == accounting.gaussian_epsilon([(0.5, 1)], 1e-5)
    )
    assert found["stages"][1]["epsilon_updates"] == 0.0
    assert found["total"]["epsilon_tokens"] == accounting.gaussian_epsilon([(0.5, 2)], 1e-5)
    assert found["total"]["epsilon"] == accounting.gaussian_epsilon([(3.0, 1), (0.5, 2)], 1e-5)


def test_without_noise_there_is_nothing_to_account_for_and_what_has_none_is_none():
    rows = [{"stage": 0, "round": 0, "client": 1, "task": "a"}]
    assert accounting.spent(Toy(**KEYS).program.args, rows, [], 1) is None
    found = accounting.spent(Toy(fcit_identity_noise=1.0).program.args, rows, [], 1)["total"]
    assert found["epsilon"] == found["epsilon_tokens"] > 0
    assert (found["epsilon_updates"], found["epsilon_sampled"]) == (None, None)


def test_the_example_in_the_guide_is_what_the_sampler_and_the_accounting_give(capsys):
    """It names the client who pays most, beside the average one."""
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "privacy.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    found = {}
    exec(example, found)
    times = found["times"]
    assert (times.most_common(1), sum(times.values()), len(times)) == ([(41, 16)], 400, 50)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(f"\n{line}\n" in guide for line in lines)
    assert lines[0] == "| 1 | 25.9 | 16.5 | 69.2 |"
    for z, columns in ((1.0, (25.9, 16.5)), (4.0, (4.7, 3.2))):
        for rounds, epsilon in zip((16, 8), columns, strict=True):
            least = exact(z / math.sqrt(rounds), 1e-5)
            assert least <= epsilon + 0.05 and epsilon <= 1.2 * least


def test_noise_on_a_token_does_not_cancel_when_records_change_and_is_the_same_for_the_same_records():
    texts = [f"record {i}" for i in range(40)]
    digest = digest_of_records(texts)
    assert digest_of_records(reversed(texts)) == digest < 2**63
    changed = [digest_of_records(texts[:i] + texts[i + 1 :]) for i in range(40)]
    assert len({digest, *changed, digest_of_records([*texts, texts[0]])}) == 42
    mean = np.arange(1, 400, dtype=np.float32)
    one, other = (noisy_token(mean, 0.2, SimulatedNoise(7), 3, 1, records) for records in (digest, changed[0]))
    assert kstest((one - other) / (0.2 * 2**0.5), "norm").pvalue > 1e-4
