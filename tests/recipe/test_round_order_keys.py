"""Keys of the order in a round: what goes with a relay, and everything that does not, by name."""

import pytest
from test_secure_sum_keys import GOOD as SECURE

from fcit_plugin.arguments import FCIT_STAGES, FcitArguments, check_stage
from fcit_plugin.arguments.round_order import CANNOT_RELAY
from fcit_plugin.errors import FcitError
from fcit_plugin.plugins import registry

RELAY = {"fcit_round_order": "relay", "fcit_clients_per_round": 7}
RULES = {
    "fedavg": True,
    "fedprox": True,
    "fedavgm": True,
    "fedadam": True,
    "fedyogi": True,
    "fedadagrad": True,
    "scaffold": False,
    "fedmedian": False,
    "trimmed_mean": False,
    "krum": False,
    "multi_krum": False,
}
REFUSED = {
    **{("fcit_server_rule", rule): {} for rule, goes in RULES.items() if not goes},
    ("fcit_secure_sum", True): SECURE,
    ("fcit_dp_clipping_norm", 1.0): {},
}
GOES = [
    *({"fcit_server_rule": rule} for rule, goes in RULES.items() if goes),
    *({"fcit_method": name} for name, part in registry("methods").items() if part.package.startswith("fcit-plugin")),
    *({"fcit_lora_aggregation": name, "fcit_method": "sequential"} for name in registry("lora_aggregations")),
    *({"fcit_update_compression": name} for name in ("none", "bf16", "int8")),
    *({"fcit_engine": name} for name in ("auto", "process", "parallel")),
    {key: value for key, value in SECURE.items() if not key.startswith(("fcit_secure", "fcit_max"))},
    {"fcit_schedule_over": "chain"},
    {"fcit_schedule_over": "stage"},
    {"fcit_identity_noise": 0.1},
    {"fcit_keep_client_updates": True},
    {"fcit_max_update_norm": 1.0, "fcit_max_norm_ratio": 5.0, "fcit_max_count_ratio": 2.0},
    {"fcit_clients_per_round": 1},
]


def test_every_rule_is_said_to_go_or_not():
    ours = {name for name, rule in registry("server_rules").items() if rule.package.startswith("fcit-plugin")}
    assert ours == RULES.keys()
    assert CANNOT_RELAY.keys() == {key for key, _ in REFUSED}


@pytest.mark.parametrize("keys", GOES, ids=str)
def test_what_goes_is_taken(keys):
    assert FcitArguments(**RELAY | keys).fcit_round_order == "relay"


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_what_does_not_go_is_refused_in_one_sentence_by_name(change):
    key, value = change
    FcitArguments(**RELAY | {"fcit_round_order": "parallel"} | REFUSED[change] | {key: value})
    with pytest.raises(FcitError) as raised:
        FcitArguments(**RELAY | REFUSED[change] | {key: value})
    assert str(raised.value).startswith(f"`{key}: {value}` cannot be used with `fcit_round_order: relay`: it ")


def test_a_schedule_of_a_chain_needs_a_relay():
    with pytest.raises(FcitError, match="`fcit_schedule_over: chain` belongs to `fcit_round_order: relay`"):
        FcitArguments(fcit_schedule_over="chain")
    assert FcitArguments(fcit_schedule_over="stage").fcit_round_order == "parallel"


def test_folders_have_no_way_from_client_to_client_but_a_stage_may_share_its_schedule():
    for stage in FCIT_STAGES:
        check_stage(stage, ["fcit_schedule_over"])
        if stage in ("fcit", "fcit_site"):
            check_stage(stage, ["fcit_round_order"])
            continue
        with pytest.raises(FcitError, match="`fcit_round_order` belongs to `stage: fcit` or `stage: fcit_site`"):
            check_stage(stage, ["fcit_round_order"])


@pytest.mark.parametrize("bound", ["zero_shot", "centralized", "centralized_equal", "local"])
def test_bounds_in_which_nobody_passes_anything_on_have_no_relay(bound):
    from fcit_plugin.recipe.bounds import bound_recipe

    made = bound_recipe({}, FcitArguments(**RELAY, fcit_schedule_over="chain", fcit_bound=bound))
    assert (made.fcit_round_order, made.fcit_schedule_over) == ("parallel", "client")
