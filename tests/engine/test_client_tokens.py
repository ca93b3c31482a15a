"""A client's identity token, and what is kept to make it."""

import numpy as np
from llamafactory.hparams import get_train_args

from fcit_plugin.engine.open_session import open_session
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.knowledge.vectors import on_grid


def test_each_clients_token_is_its_records_mean_and_the_records_own_are_made_once_and_not_kept(text_recipe, monkeypatch):
    session = open_session(*get_train_args(text_recipe(fcit_eval_every="never")))
    asked, encode = [], session.encoder.encode
    monkeypatch.setattr(session.encoder, "encode", lambda texts: asked.append(len(texts)) or encode(texts))
    local = session.local()
    for task in (0, 1):
        instructions = [turns if isinstance(turns, str) else turns[0] for turns in local.task(task).instructions]
        embedded = on_grid(encode(instructions))
        for client in (2, 0, 1, 2):
            token = local.token(ClientConfig("run", 0, 0, client, task))
            records = local.records(client, task)
            expected = on_grid(embedded[records].mean(axis=0, dtype=np.float64))
            assert token.mean.tobytes() == expected.tobytes()
            assert (token.client, token.count, token.num_examples) == (client, len(records), len(records))
    assert len(asked) == 2, "once for each task"
    assert local._embedded == {}
