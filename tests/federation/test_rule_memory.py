"""What a state says that server rules remember: what a rule has written is read back the same, all else is refused."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg
from toy import Toy, bits, start

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.engine.session import Session
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.messages import to_record
from fcit_plugin.federation.rules import ALL_NODES, RuleSet
from fcit_plugin.parts import ServerRule
from fcit_plugin.plugins import registry
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.server_state import save_state

#: Keys with which a rule remembers what it can.
KEYS = {"fedavgm": {"fcit_server_momentum": 0.5, "fcit_server_learning_rate": 0.5}}
#: By rule the attributes in which it remembers something.
MEMORY = {
    "fedavg": set(),
    "fedprox": set(),
    "scaffold": {"control", "controls"},
    "fedavgm": {"momentum_vector"},
    "fedadam": {"m_t", "v_t", "steps"},
    "fedyogi": {"m_t", "v_t"},
    "fedadagrad": {"m_t", "v_t"},
    "fedmedian": set(),
    "trimmed_mean": set(),
    "krum": set(),
    "multi_krum": set(),
    "counts": {"seen", "last", "times", "found"},
}
REMEMBERING = sorted(name for name, attributes in MEMORY.items() if attributes)
#: What an attribute's array would be called.
FORMS = ("{}", "{}[0]", "{}/l.lora_A.weight", "{}/0/l.lora_A.weight")


class Counts(FedAvg):
    """A stranger's rule: a list that grows, an array and a number of its own, and a dictionary by names of its own."""

    def __init__(self, share):
        super().__init__(**ALL_NODES)
        self.share = share
        self.seen, self.last, self.times, self.found = [], None, 0.0, {}

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        self.seen = [*self.seen, np.array([len(replies)])]
        self.last, self.times = np.ones(3), self.times + 1
        self.found = {**self.found, f"round {server_round}": np.ones(server_round)}
        return super().aggregate_train(server_round, replies)


@pytest.fixture(autouse=True)
def _stranger(monkeypatch):
    monkeypatch.setitem(registry("server_rules"), "counts", ServerRule(lambda args: Counts(0.5), name="counts"))


def toy_of(rule, **keys):
    return Toy(fcit_server_rule=rule, **KEYS.get(rule, {}), **keys)


def after(rule, rounds=2, **keys):
    toy, state = toy_of(rule, **keys), start()
    for _ in range(rounds):
        state = toy.round(state)
    return toy, state


def through_files(state, folder):
    save_state(state, folder, {}, {})
    return StateFolder(folder).load()


def refusal(toy, state, folder):
    """The sentence with which a state is refused when a run is to go on from it."""
    with pytest.raises(FcitError) as caught:
        toy.program.check_memory(through_files(state, folder), folder)
    said = str(caught.value)
    assert said.startswith(str(folder / "server_rules.safetensors")) and said.endswith(".") and "; restore it" in said
    return said


def fresh_of(rule):
    return RuleSet(FcitArguments(fcit_server_rule=rule, **KEYS.get(rule, {})))[0]


def test_all_rules_are_here():
    assert {*MEMORY} >= {*registry("server_rules")} - {"clipped_mean"}


@pytest.mark.parametrize(
    ("rule", "aggregation"), [*((rule, "factors") for rule in MEMORY), ("fedadam", "rotate"), ("fedavgm", "rotate")]
)
def test_what_a_rule_writes_is_read_back_the_same_and_the_run_goes_on_to_the_same_bits(rule, aggregation, tmp_path):
    keys = {"fcit_lora_aggregation": aggregation, "fcit_num_rounds": 4}
    toy, state = after(rule, **keys)
    assert {re.split(r"[/\[]", key)[1] for key in state.rules} == MEMORY[rule]
    loaded = through_files(state, tmp_path)
    toy.program.check_memory(loaded, tmp_path)
    rules = toy.program.rules(loaded)
    for owner in {key.partition("/")[0] for key in state.rules}:
        assert rules[owner] is not None  # it has taken up what it remembers
    assert {key: value.tobytes() for key, value in rules.to_arrays().items()} == bits(state)["rules"]
    assert bits(toy_of(rule, **keys).round(loaded)) == bits(toy.round(state))


@pytest.mark.parametrize("rule", MEMORY)
def test_no_method_and_no_setting_is_overwritten(rule, tmp_path):
    """Neither by a state that is read nor by one that is taken as it is: each attribute, in each form that a key can have."""
    fresh = fresh_of(rule)
    names = sorted({*dir(fresh), *vars(fresh), "nothing_of_the_kind", "current_arrays"} - MEMORY[rule])
    assert {"configure_train", "aggregate_train", "fraction_train", "__class__", "min_train_nodes"} <= {*names}
    toy, state = after(rule, 1)
    for number, name in enumerate(names):
        form = FORMS[number % len(FORMS)]
        arrays = {f"0/{form.format(name)}": np.ones(() if form == "{}" else (2, 3), np.float32)}
        state.rules = arrays
        with pytest.raises(FcitError, match=r"server_rules\.safetensors ha[sd] "):
            toy.program.check_memory(state, tmp_path)
        if rule != "multi_krum":
            with pytest.raises(FcitError, match=rf"^server_rules.safetensors has `0/{re.escape(name)}`, which "):
                RuleSet(toy.program.args, arrays).configure(0, 1, to_record(start().subspaces[0]), [0, 1])
    for name in ("configure_train", "fraction_train"):
        for form in FORMS:
            state.rules = {f"0/{form.format(name)}": np.ones(3, np.float32)}
            assert name in refusal(toy, state, tmp_path)


def spoilt(arrays, key):
    """Other arrays in place of one that a rule has written, each with what is wrong."""
    value = arrays[key]
    yield {**arrays, key: np.full_like(value, np.nan)}
    yield {**arrays, key: value.astype(bool)}
    if value.ndim:
        yield {**arrays, key: np.ones((*value.shape, 2), value.dtype)}
        yield {**arrays, key: np.array(1.0, value.dtype)}
        yield {**arrays, key: np.ones(tuple(size + 1 for size in value.shape), value.dtype)}
        yield {**arrays, key: np.ones(tuple(1 for _ in value.shape), value.dtype)}
    else:
        yield {**arrays, key: np.ones(2, value.dtype)}
        yield {**arrays, f"{key}/l.lora_A.weight": np.ones((2, 3), value.dtype)}
    yield {**arrays, f"{key}[0]": value}


@pytest.mark.parametrize("rule", [rule for rule in REMEMBERING if rule != "counts"])
def test_other_numbers_and_shapes_than_a_rules_own_are_refused_with_the_file(rule, tmp_path):
    toy, state = after(rule)
    arrays, count = state.rules, 0
    for key in [key for key in arrays if key.startswith(("0/", "shared/"))]:
        for hostile in spoilt(arrays, key):
            state.rules = hostile
            with pytest.raises(FcitError) as caught:
                toy.program.check_memory(through_files(state, tmp_path), tmp_path)
            said = str(caught.value)
            assert said.startswith(str(tmp_path / "server_rules.safetensors")) and said.endswith("."), said
            assert key.partition("/")[0] in said and key.split("/")[1].partition("[")[0] in said
            count += 1
    assert count >= 7 * 3
    state.rules = arrays
    toy.program.check_memory(through_files(state, tmp_path), tmp_path)


def without(arrays, *keys):
    return {key: value for key, value in arrays.items() if key not in keys}


A, B = "l.lora_A.weight", "l.lora_B.weight"


@pytest.mark.parametrize(
    ("rule", "change", "says"),
    [
        ("fedadam", lambda a: without(a, f"0/m_t/{A}"), f"`0/m_t`, without {A}"),
        ("scaffold", lambda a: without(a, f"0/control/{B}"), f"`0/control`, without {B}"),
        ("fedadam", lambda a: a | {"0/m_t/evil": np.ones(1, np.float32)}, "`0/m_t`, with 'evil', which is no weight"),
        ("scaffold", lambda a: a | {"0/controls/0/x": np.ones(1, np.float32)}, "with '0/x', which is no weight"),
        ("fedavgm", lambda a: without(a, "0/momentum_vector[1]"), "`0/momentum_vector`, whose arrays are not of the shapes"),
        ("fedavgm", lambda a: without(a, "0/momentum_vector[0]"), "`0/momentum_vector` in another form"),
        ("fedavgm", lambda a: {"0/momentum_vector": np.array(1.0)}, "`0/momentum_vector`, which is of another form"),
        ("fedavgm", lambda a: {f"0/momentum_vector/{A}": np.ones((2, 3))}, "`0/momentum_vector`, which is of another form"),
        ("fedadam", lambda a: {"0/m_t[0]": np.ones((2, 3))}, "`0/m_t`, which is of another form"),
        ("fedadam", lambda a: {"0/steps": np.ones((2, 3))}, "`0/steps` in another form"),
        ("fedadam", lambda a: {"0/steps": np.array(3)}, "`0/steps` in another form"),
        ("fedadam", lambda a: {"0/m_t": np.ones(1), **a}, "`0/m_t` in another form"),
        ("fedadam", lambda a: {"9/steps": np.array(1.0)}, "memory of '9', which is no subspace"),
        ("fedadam", lambda a: {"steps": np.array(1.0)}, "memory of 'steps', which is no subspace"),
        ("fedadam", lambda a: {"0.C/steps": np.array(1.0)}, "memory of '0.C', which is no subspace"),
        ("multi_krum", lambda a: {"0/num_nodes_to_select": np.array(1.0)}, "`multi_krum` remembers nothing"),
        ("counts", lambda a: a | {"0/times": np.array([1.0])}, "`0/times` in another form"),
        ("counts", lambda a: a | {"0/share": np.array(1.0)}, "`0/share`, which is a setting"),
        ("counts", lambda a: a | {"0/last": np.ones((3, 1))}, "`0/last`, which is of another shape"),
    ],
)
def test_what_would_end_in_a_traceback_is_said_in_a_sentence(rule, change, says, tmp_path):
    toy, state = after(rule)
    state.rules = change(state.rules)
    assert says in refusal(toy, state, tmp_path)


def test_a_rule_that_cannot_take_up_a_state_is_named_with_its_line(monkeypatch, tmp_path):
    class Own(Counts):
        def state(self):
            return {"bound": np.array(1.0)}

        def load_state(self, arrays):
            self.bound = float(arrays["bound"])

    monkeypatch.setitem(registry("server_rules"), "counts", ServerRule(lambda args: Own(0.5), name="counts"))
    toy, state = after("counts")
    assert set(state.rules) >= {"0/bound", "shared/bound"}
    toy.program.check_memory(through_files(state, tmp_path), tmp_path)
    state.rules = {"0/other": np.array(1.0)}
    assert re.search(r"Own cannot take up: KeyError: 'bound' \(.*test_rule_memory.py:\d+\)", refusal(toy, state, tmp_path))


def test_a_rule_that_cannot_be_tried_with_zeros_is_not_refused_what_it_has_written(monkeypatch, tmp_path):
    class Divides(Counts):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            if not any(array.numpy().any() for reply in replies for array in reply.content["arrays"].values()):
                raise ZeroDivisionError
            return super().aggregate_train(server_round, replies)

    monkeypatch.setitem(registry("server_rules"), "counts", ServerRule(lambda args: Divides(0.5), name="counts"))
    toy, state = after("counts")
    toy.program.check_memory(through_files(state, tmp_path), tmp_path)


class Decays(FedAvg):
    """A rule that changes what its constructor takes, or what it does not set."""

    def __init__(self, eta, change):
        super().__init__(**ALL_NODES)
        self.eta = eta
        self.change = change

    def aggregate_train(self, server_round, replies):
        self.change(self)
        return super().aggregate_train(server_round, replies)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rule: setattr(rule, "eta", rule.eta / 2), "remembers `eta`, which is a setting"),
        (lambda rule: setattr(rule, "velocity", np.ones(2)), "remembers `velocity`, which no constructor sets"),
    ],
)
def test_what_would_not_be_put_back_is_refused_when_it_is_to_be_written(change, says, monkeypatch):
    monkeypatch.setitem(registry("server_rules"), "decays", ServerRule(lambda args: Decays(0.5, change), name="decays"))
    with pytest.raises(FcitError) as caught:
        Toy(fcit_server_rule="decays").round()
    assert says in str(caught.value) and "`state()` and `load_state()`" in str(caught.value)


@pytest.mark.parametrize("begins", ["state_dir", "commit"])
def test_every_way_to_go_on_from_a_state_looks_at_it(begins, tmp_path):
    toy, state = after("fedadam")
    session = SimpleNamespace(args=SimpleNamespace(fcit_state_dir=str(tmp_path)), program=toy.program, processes=None)
    session.state_in = lambda folder: state
    source = SimpleNamespace(folder=tmp_path, load=lambda processes: (state, "progress", []))
    go_on = {"state_dir": lambda: Session.load_state(session), "commit": lambda: Session.going_on_from(session, source)}[begins]
    assert go_on() in (state, (state, "progress", []))
    state.rules["0/aggregate_train"] = np.ones(2, np.float32)
    with pytest.raises(FcitError, match=r"has `0/aggregate_train`, which is a method"):
        go_on()


def test_what_is_not_finite_is_refused_by_whoever_reads_the_folder(tmp_path):
    _, state = after("fedadam")
    state.rules[f"0/v_t/{A}"] = np.full((2, 3), np.nan, np.float32)
    save_state(state, tmp_path, {}, {})
    with pytest.raises(FcitError, match=r"server_rules\.safetensors holds values that are not finite in 0/v_t/l\.lora_A"):
        StateFolder(tmp_path).load()
