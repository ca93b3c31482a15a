"""A client's identity token, and what is kept to make it."""

import io
from types import SimpleNamespace

import numpy as np
from llamafactory.hparams import get_train_args
from PIL import Image

from fcit_plugin.engine.client_tokens import _digest_of_image
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.federation.noise import SimulatedNoise
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from fcit_plugin.knowledge.prototypes import kinds_of
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


def test_with_kinds_a_clients_own_records_are_encoded_alone_and_nothing_of_them_is_kept(text_recipe, monkeypatch):
    session = open_session(*get_train_args(text_recipe(fcit_eval_every="never", fcit_method="disco_plus")))
    asked, encode = [], session.encoder.encode
    monkeypatch.setattr(session.encoder, "encode", lambda texts: asked.append(len(texts)) or encode(texts))
    local = session.local()
    embedded = encode([turns if isinstance(turns, str) else turns[0] for turns in local.task(0).instructions])
    for client in (2, 0, 2):
        token = local.token(ClientConfig("run", 0, 0, client, 0))
        own = on_grid(embedded[local.records(client, 0)])
        expected, kinds = on_grid(own.mean(axis=0, dtype=np.float64)), kinds_of(own)
        assert token.mean.tobytes() == expected.tobytes()
        assert (token.kinds.means.tobytes(), token.kinds.counts.tobytes()) == (kinds.means.tobytes(), kinds.counts.tobytes())
    assert asked == [len(local.records(client, 0)) for client in (2, 0)]
    sizes = [array.nbytes for array in reachable_arrays(vars(local.tokens)) if array.dtype == np.float32]
    assert max(sizes) < own.nbytes, "means and kinds are kept"


def test_a_client_of_few_records_picks_by_the_token_that_it_would_tell_with_its_noise(text_recipe, monkeypatch):
    def local_of(least):
        keys = text_recipe(fcit_eval_every="never", fcit_identity_noise=0.2, fcit_identity_min_records=least)
        return open_session(*get_train_args(keys)).local(noise=SimulatedNoise(7))

    few, asked = local_of(10**6), []
    few_organizer = SimpleNamespace(own_subspace=lambda mean, tokens: asked.append(mean) or 3)
    monkeypatch.setattr(few.method, "organizer_of", lambda stage, round: few_organizer)
    work, tells = ClientConfig("run", 0, 0, 1, 0), local_of(1)
    assert isinstance(few.token(work), WithoutToken) and few.choose(work, SubspaceTokens.empty(4)) == 3
    assert asked[0].tobytes() == tells.token(work).mean.tobytes()


def test_the_digest_of_an_image_is_that_of_its_numbers_in_whatever_form_a_record_has_it(tmp_path):
    def forms(color):
        path = tmp_path / f"{color}.png"
        Image.new("RGB", (8, 8), color).save(path)
        data = path.read_bytes()
        return {
            "file": str(path),
            "file in a dictionary": {"path": str(path), "bytes": None},
            "bytes": data,
            "bytes in a dictionary": {"path": "x.png", "bytes": data},
            "decoded": Image.open(io.BytesIO(data)),
        }

    digests = [{name: _digest_of_image(image) for name, image in forms(color).items()} for color in ("red", "red", "blue")]
    assert digests[0] == digests[1]
    assert all(digests[0][name] != digests[2][name] for name in digests[0])
    assert len({digest for name, digest in digests[0].items() if name != "decoded"}) == 1


def reachable_arrays(value):
    """The arrays in dictionaries, lists and tokens."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from reachable_arrays(item)
    elif isinstance(value, ClientToken):
        yield from reachable_arrays([value.mean, value.kinds.means])
