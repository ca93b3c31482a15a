"""Arrays left in their files: the same numbers, read when needed, and never other ones than were judged."""

import pickle
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, Message, MessageType, MetricRecord, RecordDict
from safetensors.numpy import save_file

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.messages import NUM_EXAMPLES, record_of
from fcit_plugin.federation.rules import RuleSet
from fcit_plugin.federation.stored import stored_arrays

SIZE, REPLIES = 50_000, 60


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(REPLIES):
        save_file({f"t{j}": rng.normal(size=(SIZE,)).astype("f") for j in range(2)}, tmp_path / f"{i}.safetensors")
    return [tmp_path / f"{i}.safetensors" for i in range(REPLIES)]


def replies(arrays_of):
    for client in range(REPLIES):
        request = Message(RecordDict(), dst_node_id=client, message_type=MessageType.TRAIN)
        record = RecordDict({"arrays": record_of(arrays_of(client)), "metrics": MetricRecord({NUM_EXAMPLES: client + 1})})
        yield Message(record, reply_to=request)


def average(messages):
    rules = RuleSet(FcitArguments(fcit_setting="task_hom"))
    tracemalloc.start()
    state = rules.aggregate(0, 1, list(messages))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {key: value.numpy() for key, value in state.items()}, peak


def test_flowers_average_holds_one_array_at_a_time(files):
    found, peak = average(replies(lambda client: stored_arrays(files[client])))
    whole, _ = average(replies(lambda client: {k: Array(a.numpy()) for k, a in stored_arrays(files[client]).items()}))
    assert {key: value.tobytes() for key, value in found.items()} == {key: value.tobytes() for key, value in whole.items()}
    assert peak < 20 * 4 * SIZE, f"{peak} bytes at once, where all replies have {REPLIES * 2 * 4 * SIZE}"


def test_an_array_that_has_changed_since_it_was_judged_is_refused(files):
    array = stored_arrays(files[0])["t0"]
    assert np.isfinite(array.numpy()).all()
    save_file({"t0": np.zeros(SIZE, "f")}, files[0])
    with pytest.raises(ValueError, match=r"0\.safetensors has changed while the round went on"):
        array.numpy()
    files[0].unlink()
    with pytest.raises(ValueError, match=r"0\.safetensors cannot be read any more"):
        array.numpy()


def test_another_process_gets_the_numbers_themselves(files):
    array = stored_arrays(files[0])["t1"]
    copy = pickle.loads(pickle.dumps(array))
    files[0].unlink()
    assert type(copy) is Array and copy.shape == (SIZE,) and np.isfinite(copy.numpy()).all()


def test_only_float32_is_an_update(tmp_path):
    save_file({"t": np.zeros(3, np.float64)}, tmp_path / "u.safetensors")
    with pytest.raises(ValueError, match="t is of dtype F64, not F32"):
        stored_arrays(tmp_path / "u.safetensors")
