"""SCAFFOLD's controls, against algorithm 1 of the paper written out for whole vectors."""

import numpy as np
from toy import BLANK, PROJECTOR, Toy, bits, start

from fcit_plugin.federation.messages import ARRAYS, SHARED
from fcit_plugin.federation.scaffold import CORRECTION, GRADIENT


class Watched(Toy):
    """A toy federation that shows every training request and its reply."""

    def __init__(self, **changes):
        super().__init__(on_reply=self.see, fcit_server_rule="scaffold", **changes)
        self.seen = []

    def see(self, request, reply):
        if ARRAYS in request.content:
            self.seen.append((request, reply))


def numbers(record):
    return {key: array.numpy().astype(np.float64) for key, array in record.items()}


def test_corrections_and_controls_are_those_of_the_paper_for_each_subspace_and_the_projector():
    toy, state = Watched(), start()
    clients, server = {}, {}  # controls of (owner, client) and of owner, by key
    for _ in range(3):
        toy.seen, toy.heard.rows = [], []
        state = toy.round(state)
        owner = {row["client"]: row["subspace"] for row in toy.heard.rows}
        change = {}
        for request, reply in toy.seen:
            client = request.metadata.dst_node_id
            sent, measured = numbers(request.content[CORRECTION]), numbers(reply.content[GRADIENT])
            assert sent.keys() == measured.keys() == BLANK.keys() | PROJECTOR.keys()
            for key, gradient in measured.items():
                place = (SHARED if key in PROJECTOR else owner[client], key)
                own = clients.get((*place, client), 0.0)
                np.testing.assert_allclose(sent[key], server.get(place, 0.0) - own, atol=1e-6)
                change.setdefault(place, []).append(gradient - own)
                clients[*place, client] = gradient
        for place, changes in change.items():
            server[place] = server.get(place, 0.0) + sum(changes) / 7  # N, not the number of replies
    for (where, key), control in server.items():
        np.testing.assert_allclose(state.rules[f"{where}/control/{key}"], control, rtol=1e-5, atol=1e-6)
    assert len(server) == 5 * len(BLANK) + len(PROJECTOR)


def test_a_client_without_its_mean_gradient_is_left_out_and_leaves_no_trace():
    def forgets(app):
        def answer(message, context):
            reply = app(message, context)
            if message.metadata.dst_node_id == 1 and ARRAYS in message.content:
                del reply.content[GRADIENT]
            return reply

        return answer

    toy = Toy(fcit_server_rule="scaffold", wrap=forgets)
    without = Toy(fcit_server_rule="scaffold", without=[1])
    assert bits(toy.round()) == bits(without.round())
    assert [row["client"] for row in toy.heard.dropped] == [1]
    assert "records" in toy.heard.dropped[0]["reason"]
