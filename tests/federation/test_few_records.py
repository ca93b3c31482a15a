"""Clients with too few records to tell a token of: they pick a subspace by themselves, or wait; forms of tokens in messages."""

import numpy as np
import pytest
from toy import TOKENS, Local, Toy, bits, start

from fcit_plugin.federation.client import make_client_app
from fcit_plugin.federation.messages import TOKEN, tokens_record
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from fcit_plugin.knowledge.organizer import match
from fcit_plugin.knowledge.token_forms import FORMS


class Few(Local):
    """Some clients have few records and pick as a client of a folder does."""

    def __init__(self, *few: int, count: int = 3) -> None:
        self.few, self.count, self.asked = few, count, []

    def token(self, config):
        if config.client in self.few:
            return WithoutToken(config.client, self.count)
        return super().token(config)

    def choose(self, config, tokens):
        self.asked.append(config.client)
        return match(TOKENS[config.client], tokens, 0.7, None)


def test_a_client_with_few_records_trains_the_subspace_that_it_picks_and_leaves_no_token():
    heard = []
    toy = Toy(local=Few(0, 2), on_reply=lambda request, reply: heard.append(reply))
    after = toy.round()
    assert toy.local.asked == [0, 2] and not toy.heard.dropped
    own = {row["client"]: (row["subspace"], row["cosine"]) for row in toy.heard.rows}
    assert own[0] == (0, None) and own[2] == (1, None)
    of_few = [reply for reply in heard if reply.metadata.src_node_id in (0, 2)]
    assert len(of_few) == 6 and all(TOKEN not in reply.content for reply in of_few)
    plain = Toy().round()
    for k, told in ((0, 11), (1, 0)):  # client 1 alone of those of subspace 0 tells a token, of 11 records
        assert after.tokens.counts[k] == 10 + told
    assert all(after.subspaces[k].keys() == plain.subspaces[k].keys() for k in range(2))
    before = start()
    assert any((after.subspaces[1][key] != before.subspaces[1][key]).any() for key in before.subspaces[1]), (
        "client 2 trained it"
    )


def test_a_client_whose_own_subspace_is_not_there_waits_and_is_counted():
    toy = Toy(local=Few(0, 3))
    toy.round()
    (entry,) = toy.heard.dropped
    assert entry["client"] == 3 and (entry["stage"], entry["round"]) == (0, 0)
    assert entry["reason"].startswith("it waits, for it has 3 records, fewer than 5 (`fcit_identity_min_records`)")
    assert 3 not in {row["client"] for row in toy.heard.rows}


def test_where_there_is_no_subspace_they_all_wait_and_the_round_is_that_of_the_others():
    empty = start()
    empty.tokens, empty.subspaces, empty.tasks = SubspaceTokens.empty(len(TOKENS[0])), [], []
    toy, others = Toy(local=Few(0, 3)), Toy(without=(0, 3))
    assert bits(toy.round(empty)) == bits(others.round(empty))
    assert toy.local.asked == [] and [entry["client"] for entry in toy.heard.dropped] == [0, 3]


@pytest.mark.parametrize("count", [5, 50, 2**31 - 1])
def test_a_client_with_enough_records_has_to_tell_its_token(count):
    toy = Toy(local=Few(0, count=count))
    toy.round()
    (entry,) = toy.heard.dropped
    assert entry["client"] == 0 and f"it sends no identity token of its {count} records" in entry["reason"]


@pytest.mark.parametrize("count", [1, 3])
def test_where_tokens_decide_nothing_everybody_tells_one(count):
    toy = Toy(local=Few(0, count=count), fcit_method="sequential", fcit_similarity_threshold=0.9)
    toy.round()
    assert [entry["client"] for entry in toy.heard.dropped] == [0]


@pytest.mark.parametrize("chosen", [-2, 2, 2**40, 0.5])
def test_a_choice_that_is_no_subspace_is_refused(chosen):
    class Liar(Few):
        def choose(self, config, tokens):
            return chosen

    toy = Toy(local=Liar(0))
    toy.round()
    (entry,) = toy.heard.dropped
    assert entry["client"] == 0 and "it has picked subspace" in entry["reason"]


@pytest.mark.parametrize("name", FORMS)
def test_an_update_may_not_be_of_another_form_than_the_recipes(name):
    asked, form = FORMS["signs_64"], FORMS[name]
    rows = np.stack([TOKENS[c] for c in sorted(TOKENS)]).astype(np.float32)

    class Telling(Local):
        def token(self, config):
            told = form.told(form.mixed(rows[[config.client]]))[0]
            return ClientToken(config.client, told, 10, 20)

    state = start()
    state.tokens = SubspaceTokens(10 * asked.told(asked.mixed(rows[[0, 2]])), np.full(2, 10, np.int64))
    toy = Toy(
        local=Telling(),
        wrap=lambda app: make_client_app(Telling(), form.key),
        fcit_identity_form="signs_64",
        fcit_identity_unit=False,
        fcit_min_replies=1,
    )
    if name == "signs_64":
        after = toy.round(state)
        assert not toy.heard.dropped and np.abs(after.tokens.sums - np.rint(after.tokens.sums)).max() == 0
        return
    with pytest.raises(Exception, match=f"its token record holds {form.key}, not signs_64-1"):
        toy.round(state)
    assert {entry["client"] for entry in toy.heard.dropped} == set(TOKENS)


def test_signs_that_are_none_are_refused_by_a_sentence_that_names_the_form():
    asked = FORMS["signs_64"]
    rows = np.stack([TOKENS[c] for c in sorted(TOKENS)]).astype(np.float32)

    class Telling(Local):
        def token(self, config):
            told = asked.told(asked.mixed(rows[[config.client]]))[0].copy()
            if config.client == 4:
                told[7] = 0.5
            return ClientToken(config.client, told, 10, 20)

    state = start()
    state.tokens = SubspaceTokens(10 * asked.told(asked.mixed(rows[[0, 2]])), np.full(2, 10, np.int64))
    toy = Toy(wrap=lambda app: make_client_app(Telling(), asked.key), fcit_identity_form="signs_64")
    toy.round(state)
    (entry,) = toy.heard.dropped
    assert entry["client"] == 4
    assert entry["reason"] == "its identity token holds other numbers than 1 and -1 (`fcit_identity_form: signs_64`)"


def test_the_states_tokens_travel_without_the_kinds():
    assert set(tokens_record(start().tokens)) == {"sums", "counts"}
