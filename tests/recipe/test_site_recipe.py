"""A site's recipe as it is filled in by hand: what is wrong with it is one sentence that names the key."""

import pytest
import yaml
from llamafactory.hparams import get_train_args

from fcit_plugin.arguments.network import SITE_KEYS
from fcit_plugin.errors import FcitError
from fcit_plugin.shipped import shipped

GOOD = yaml.safe_load((shipped("recipes") / "network" / "site.yaml").read_text())
#: Of each kind of slip what is typed, None: taken out; and what is said.
SLIPS = {
    "a key of ours": ({"fcit_site_max_round": 3}, "nearest valid key is `fcit_site_max_rounds`"),
    "a key without its parts": ({"fcit_sitetasks": ["text_last"]}, "nearest valid key is `fcit_site_tasks`"),
    "a key of LLaMA-Factory's": ({"learning_rat": 1e-3}, "nearest valid key is `learning_rate`"),
    "a word for a number": ({"fcit_site_max_rounds": "twenty"}, "`fcit_site_max_rounds` takes a value of type int"),
    "a part of a round": ({"fcit_site_max_rounds": 2.5}, "`fcit_site_max_rounds` takes a value of type int"),
    "no round": ({"fcit_site_max_rounds": 0}, "`fcit_site_max_rounds` must be at least 1"),
    "yes in another language": ({"fcit_site_labels": "ja"}, "`fcit_site_labels` takes a value of type bool"),
    "no task": ({"fcit_site_tasks": []}, "`fcit_site_tasks` is []"),
    "another stage": ({"stage": "fcit_sites"}, "the nearest valid one is `fcit_site`"),
    "an address without a port": ({"fcit_superlink": "fl.example.org"}, "(fcit_superlink) is not a host and its port"),
    "no address": ({"fcit_superlink": None}, "needs `fcit_superlink`"),
    "no certificate": ({"fcit_certificate": None}, "needs `fcit_certificate`"),
    "no key": ({"fcit_site_key": None}, "name `fcit_site_key` if this is a site"),
    "a key of the server's": ({"fcit_server_key": "server.key"}, "`fcit_server_key` belongs to `stage: fcit`"),
    "the server's patience": ({"fcit_site_patience": 5.0}, "`fcit_site_patience` belongs to `stage: fcit`"),
    "the server's engine": ({"fcit_engine": "flower"}, "`fcit_engine` belongs to `stage: fcit`"),
    "the datasets": ({"dataset": "text_last"}, "`dataset` is not used by `stage: fcit_site`"),
    "noise without a bound": ({"fcit_site_noise_multiplier": 1.0}, "needs `fcit_site_clipping_norm`"),
    "no bound": ({"fcit_site_clipping_norm": 0}, "`fcit_site_clipping_norm` must be greater than 0"),
    "a heart that races": ({"fcit_site_heartbeat": 1}, "`fcit_site_heartbeat` must be at least 10"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_said_by_the_name_of_its_key(slip):
    changes, said = SLIPS[slip]
    with pytest.raises(FcitError) as raised:
        get_train_args({key: value for key, value in {**GOOD, **changes}.items() if value is not None})
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("key", SITE_KEYS)
def test_a_key_of_a_sites_is_taken_by_no_other_stage(key):
    value = {"fcit_site_tasks": ["text_last"], "fcit_site_key": "site.key"}.get(key, 11)
    if key in ("fcit_site_labels", "fcit_site_eval"):
        value = True
    server = {name: held for name, held in GOOD.items() if not name.startswith(("fcit_site", "fcit_superlink", "fcit_cert"))}
    with pytest.raises(FcitError, match=f"`{key}`"):
        get_train_args({**server, "stage": "fcit", key: value})
