"""What comes in place of a reply costs no more than the reply may: honest ones fit, and a small message does not grow."""

import time
import tracemalloc

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, MetricRecord, RecordDict
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from toy import Toy
from wire import Sent, message_of

from fcit_plugin.errors import FcitError
from fcit_plugin.federation import envelope
from fcit_plugin.federation.envelope import open_reply, sealed_failure, sealed_reply
from fcit_plugin.federation.messages import ARRAYS, num_bytes
from fcit_plugin.federation.reply_limits import ReplyLimits, limits_of
from fcit_plugin.federation.reply_parts import Unusable

LIMITS = ReplyLimits(numbers=2**24, heads=2**16, texts=2**16, parts=40)

RECIPES = {
    "as usual": {},
    "one model": {"fcit_method": "sequential"},
    "control variates": {"fcit_server_rule": "scaffold"},
    "fisher information": {"fcit_method": "ewc"},
    "bf16": {"fcit_update_compression": "bf16"},
    "int8": {"fcit_update_compression": "int8"},
    "one factor": {"fcit_lora_aggregation": "ffa"},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_honest_reply_fits_four_times_over_and_arrives_as_it_was(recipe):
    seen = []

    def arrives(request, reply):
        limits = limits_of(request)
        assert Sent.of(reply).arrives(limits).content == reply.content
        few = ReplyLimits(limits.numbers // 4, limits.heads // 4, limits.texts // 4, limits.parts // 4)
        assert Sent.of(reply).arrives(few) is not None
        seen.append(request.metadata.message_type)

    Toy(on_reply=arrives, **RECIPES[recipe]).round()
    assert {MessageType.QUERY, MessageType.TRAIN} >= set(seen) >= {MessageType.TRAIN}


def test_what_may_come_grows_with_what_was_sent_and_with_nothing_else():
    requests = []
    Toy(on_reply=lambda request, reply: requests.append(request)).round()
    query, train = (next(r for r in requests if r.metadata.message_type == kind) for kind in ("query", "train"))
    assert limits_of(query).whole < 2**25
    large = message_of(RecordDict(dict(train.content)))
    weights = {key: Array(np.zeros((2**20, 4), np.float32)) for key in train.content[ARRAYS]}
    large.content[ARRAYS] = ArrayRecord(weights)
    grown = limits_of(large).whole - limits_of(train).whole
    assert abs(grown - 2 * num_bytes(large)) < 2**16


def test_equal_pieces_and_equal_arrays_which_flower_sends_once_arrive():
    zeros = np.zeros(4 * FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE // 4 - 100, np.float32)
    record = ArrayRecord({key: Array(values) for key, values in {"a": zeros, "b": np.ones(3), "c": np.ones(3)}.items()})
    sent = Sent.of(message_of(RecordDict({"x": record, "y": record, "n": ConfigRecord({"k": [1, 2]})})))
    assert sent.size < 0.8 * zeros.nbytes
    found = sent.arrives(ReplyLimits(2 * zeros.nbytes + 2000, 2**16, 2**10, 40)).content
    np.testing.assert_array_equal(found["y"]["a"].numpy(), zeros)
    np.testing.assert_array_equal(found["x"]["c"].numpy(), np.ones(3))
    with pytest.raises(Unusable, match="bytes of arrays, and at most"):
        sent.arrives(ReplyLimits(2 * zeros.nbytes - 2000, 2**16, 2**10, 40))


class Repeating(Array):
    """Flower's array that names its only piece again and again."""

    def deflate(self):
        sent = Sent()
        return sent.parts[sent.array(list(self.children), [0] * 400)]


Repeating.__qualname__ = "Array"


def one_piece_many_times():
    array = Repeating("float32", (1,), "numpy.ndarray", np.random.default_rng(0).bytes(2**20))
    record = ArrayRecord()
    record["k"] = array
    return Sent.of(message_of(RecordDict({"token": record})))


def one_array_many_times():
    array = Array(np.zeros(2**20, np.float32))
    return Sent.of(message_of(RecordDict({"token": ArrayRecord({str(number): array for number in range(200)})})))


def one_record_many_times():
    record = ArrayRecord({str(number): Array(np.zeros(0, np.float32)) for number in range(300)})
    return Sent.of(message_of(RecordDict({str(number): record for number in range(300)})))


def pieces_without_end():
    sent = Sent()
    chunk = sent.put("ArrayChunk", body=b"x")
    return sent.message({"token": sent.put("ArrayRecord", [name := sent.array([chunk], [0] * 2**20)], {"k": name})})


def an_array_in_a_head_alone():
    """Flower puts together all that a head names, before it looks into the body."""
    sent = Sent()
    chunk = sent.put("ArrayChunk", body=bytes(2**20))
    array = sent.array([chunk], [0] * 400)
    return sent.message({"token": sent.put("ConfigRecord", [array])}, [sent.root])


def an_array_beside_the_records():
    sent = Sent()
    chunk = sent.put("ArrayChunk", body=bytes(2**20))
    array = sent.array([chunk], [0] * 400)
    record = sent.put("ArrayRecord", [], {})
    return sent.message({"token": record}, [record, array])


def a_piece_with_pieces():
    sent = Sent()
    inner = sent.put("ArrayChunk", [sent.put("ArrayChunk", body=bytes(2**20))] * 2**12)
    return sent.message({"token": sent.put("ArrayRecord", [name := sent.array([inner], [0])], {"k": name})})


def records_in_records():
    sent = Sent()
    inner = sent.put("RecordDict", [], {})
    for number in range(30):
        inner = sent.put("RecordDict", [inner], {str(number): inner})
    return sent.message({"token": inner})


def many_parts():
    return Sent.of(message_of(RecordDict({str(n): MetricRecord({"n": n}) for n in range(50)})))


def a_long_text():
    return Sent.of(message_of(RecordDict({"envelope": ConfigRecord({"failure": "x" * 10**6})})))


def many_numbers():
    return Sent.of(message_of(RecordDict({"metrics": MetricRecord({"n": [1] * 50_000})})))


def many_bytes():
    return Sent.of(message_of(RecordDict({"token": ArrayRecord({"k": Array(np.random.default_rng(0).random(2**22))})})))


def nested_brackets():
    sent = Sent()
    return sent.message({"token": sent.put("ArrayRecord", [], b"[" * 60_000)})


FAULTS = {
    one_piece_many_times: "has 419,430,400 bytes of arrays, and at most 16,777,216 fit",
    one_array_many_times: "has 838,886,400 bytes of arrays, and",
    one_record_many_times: "bytes that describe arrays, and at most 65,536 fit",
    pieces_without_end: "bytes that describe arrays, and at most 65,536 fit",
    an_array_in_a_head_alone: "has a part of kind 'ConfigRecord' whose head names other parts than its body",
    an_array_beside_the_records: "has a part of kind 'RecordDict' whose head names other parts than its body",
    a_piece_with_pieces: "bytes that describe arrays, and at most 65,536 fit",
    records_in_records: "has a part of kind 'RecordDict' in place of ArrayRecord or ConfigRecord or MetricRecord",
    many_parts: "has more than 40 parts",
    a_long_text: "bytes of texts, and at most 65,536 fit",
    many_numbers: "has 50,000 values beside its arrays, and at most 32,768 fit",
    many_bytes: "has more than 16,908,288 bytes",
    nested_brackets: "cannot be read (JSONDecodeError)",
}


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
def test_a_message_that_grows_is_refused_before_it_does(make):
    sent = make()
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(Unusable) as caught:
            sent.arrives(LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 2
    assert FAULTS[make] in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_of_a_reply_that_is_too_large_the_rest_is_not_fetched():
    sent, fetched = many_bytes(), []

    def pull(name):
        fetched.append(len(sent.parts[name]))
        return sent.parts[name]

    limits = ReplyLimits(numbers=2**23, heads=2**16, texts=2**16, parts=40)
    with pytest.raises(Unusable, match="has more than"):
        sent.arrives(limits, pull)
    assert sum(fetched) < 2**23 + 2 * FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE < sent.size


def test_equal_arrays_are_hashed_once_before_a_signature_is_checked(monkeypatch):
    key, hashed = ec.generate_private_key(ec.SECP384R1()), []

    def counting(array, usual=envelope.digest_of):
        hashed.append(len(array.data))
        return usual(array)

    array = Array(np.arange(2**10, dtype=np.float32))
    content = RecordDict({name: ArrayRecord({str(n): array for n in range(20)}) for name in ("x", "y")})
    content["y"]["other"] = Array(np.zeros(3, np.float32))
    signed = sealed_reply(content, "nonce", "train", key)
    came = Sent.of(message_of(signed)).arrives(LIMITS).content
    monkeypatch.setattr(envelope, "digest_of", counting)
    records, failure = open_reply(came, "nonce", "train", key.public_key())
    assert (records, failure) == (content, None)
    assert sorted(hashed) == sorted({len(array.data), len(content["y"]["other"].data)})
    came["y"]["other"] = array
    with pytest.raises(FcitError, match="signature"):
        open_reply(came, "nonce", "train", key.public_key())


def test_a_long_sentence_of_failure_is_cut_where_it_is_signed():
    key = ec.generate_private_key(ec.SECP384R1())
    came = Sent.of(message_of(sealed_failure("why? " * 10**6, "nonce", "train", key))).arrives(LIMITS).content
    assert open_reply(came, "nonce", "train", key.public_key())[1] == ("why? " * 400)
