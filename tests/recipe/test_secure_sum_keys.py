"""Keys of secure sums: what goes with them, what falls away by name, and that everything registered is one or the other."""

import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict
from secure_keys import secure, secure_site

from fcit_plugin.arguments import FcitArguments, check_stage
from fcit_plugin.arguments.secure_sum import FALLS_AWAY
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.compression import COMPRESSIONS
from fcit_plugin.federation.messages import ARRAYS, METRICS, NUM_EXAMPLES, to_record
from fcit_plugin.federation.rules import RuleSet
from fcit_plugin.plugins import registry

GOOD, SITE = secure(), secure_site()
#: A new part belongs into one of the two lists of its kind, and a new rule or method says which by itself.
GOES = {
    "fcit_server_rule": {"fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"},
    "fcit_method": {
        "disco",
        "disco_plus",
        "sequential",
        "lwf",
        "o_lora",
        "c_lora",
        "moe_lora",
        "replay",
        "a_gem",
        "lamol",
        "ties_merging",
    },
    "fcit_lora_aggregation": {"factors", "refactor", "ffa", "rotate"},
    "fcit_update_compression": {"none"},
}
AWAY = {
    "fcit_server_rule": {"scaffold", "fedmedian", "trimmed_mean", "krum", "multi_krum"},
    "fcit_method": {"ewc"},
    "fcit_lora_aggregation": {"svd", "exact", "stack"},
    "fcit_update_compression": {"bf16", "int8"},
}
KINDS = {"fcit_server_rule": "server_rules", "fcit_method": "methods", "fcit_lora_aggregation": "lora_aggregations"}


@pytest.mark.parametrize("recipe", [GOOD, SITE, GOOD | {"fcit_secure_min_clients": 5}])
def test_a_recipe_that_has_what_is_needed_is_taken(recipe):
    assert FcitArguments(**recipe).fcit_secure_sum


def test_everything_that_is_registered_is_in_one_of_the_two_lists():
    there = {key: {name for name, part in registry(kind).items() if part.package.startswith("fcit-plugin")}
             for key, kind in KINDS.items()}  # fmt: skip
    there["fcit_update_compression"] = {"none", *COMPRESSIONS}
    assert GOES.keys() == AWAY.keys() == there.keys()
    for key, names in there.items():
        assert not GOES[key] & AWAY[key] and GOES[key] | AWAY[key] == names, key


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GOES.items() for value in sorted(values)])
def test_what_is_a_function_of_the_mean_goes(key, value):
    aggregation = {"fcit_lora_aggregation": "factors"} if value != "moe_lora" else {}
    FcitArguments(**GOOD | aggregation | {key: value})


REFUSED = {
    **{(key, value): [f"`{key}: {value}`"] for key, values in AWAY.items() for value in sorted(values)},
    ("fcit_max_norm_ratio", 50.0): ["`fcit_max_norm_ratio: 50.0`", "`fcit_max_update_norm`"],
    ("fcit_max_count_ratio", 3.0): ["`fcit_max_count_ratio: 3.0`"],
    ("fcit_keep_client_updates", True): ["`fcit_keep_client_updates: True`"],
    ("fcit_dp_clipping_norm", 1.0): ["`fcit_dp_clipping_norm: 1.0`"],
    ("fcit_engine", "auto"): ["`fcit_engine: flower`", "engine is auto"],
    ("fcit_engine", "process"): ["`fcit_engine: flower`", "engine is process"],
    ("fcit_engine", "parallel"): ["`fcit_engine: flower`", "engine is parallel"],
    ("fcit_secure_min_clients", 2): ["`fcit_secure_min_clients` must be at least 3"],
    ("fcit_secure_min_clients", 6): ["`fcit_secure_min_clients` (6)", "`fcit_clients_per_round` (5)"],
    ("fcit_max_update_norm", None): ["needs `fcit_max_update_norm`"],
    ("fcit_max_client_samples", None): ["needs `fcit_max_client_samples`"],
    ("fcit_max_client_samples", 2**31): ["`fcit_max_client_samples`", "2^32"],
}


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_what_does_not_go_is_refused_by_name(change):
    key, value = change
    with pytest.raises(FcitError) as raised:
        FcitArguments(**GOOD | {key: value})
    for part in REFUSED[change]:
        assert part in str(raised.value), raised.value


def test_every_key_that_falls_away_is_walked_through():
    assert FALLS_AWAY.keys() <= {key for key, _ in REFUSED}


def test_every_engine_but_flower_is_walked_through():
    (field,) = [item for item in FcitArguments.__dataclass_fields__.values() if item.name == "fcit_engine"]
    assert {value for key, value in REFUSED if key == "fcit_engine"} == set(field.metadata["choices"]) - {"flower"}


def test_the_number_of_clients_without_secure_sums_and_a_site_without_keys_are_refused():
    with pytest.raises(FcitError, match="`fcit_secure_min_clients` belongs to `fcit_secure_sum: true`"):
        FcitArguments(fcit_secure_min_clients=4)
    with pytest.raises(FcitError, match="`fcit_sites` at each site"):
        FcitArguments(**SITE | {"fcit_sites": None})


@pytest.mark.parametrize("stage", ["fcit_client", "fcit_aggregate"])
def test_folders_have_no_way_back_and_forth(stage):
    with pytest.raises(FcitError, match=r"`fcit_secure_sum` belongs to `stage: fcit` or `stage: fcit_site`"):
        check_stage(stage, ["fcit_secure_sum"])


def parts(values, request):
    made = []
    for weights, examples in values:
        content = RecordDict({ARRAYS: to_record(weights), METRICS: MetricRecord({NUM_EXAMPLES: examples})})
        made.append(Message(content, reply_to=request))
    return made


@pytest.mark.parametrize("rule", sorted(registry("server_rules")))
def test_a_rule_that_is_said_to_see_the_mean_alone_makes_the_same_of_the_mean(rule):
    """And one that is not makes something else, or wants more: the mark is neither too much nor too little."""
    args = FcitArguments(fcit_server_rule=rule, fcit_clients_per_round=7)
    generator = torch.Generator().manual_seed(1)
    start = {"l.lora_A.weight": torch.randn(3, 4, generator=generator)}
    both = [RuleSet(args), RuleSet(args)]
    alike = not (both[0].wants or both[0].sends)
    if alike:
        states = [start, start]
        for number in (1, 2):
            drawn = [({key: value + torch.randn(value.shape, generator=generator) for key, value in start.items()}, n + 1)
                     for n in range(7)]  # fmt: skip
            total = sum(n for _, n in drawn)
            mean = {key: sum(n * weights[key].double() for weights, n in drawn).div(total).float() for key in start}
            for place, values in enumerate((drawn, [(mean, total)])):
                asked = both[place].configure(0, number, to_record(states[place]), list(range(7)))
                states[place] = both[place].aggregate(0, number, parts(values, asked[0]))
        alike = all(torch.allclose(states[0][key], states[1][key], atol=1e-5) for key in start)
    assert alike == registry("server_rules")[rule].sees_mean_alone
