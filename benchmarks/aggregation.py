"""Is aggregation a stream? Update folders averaged by Flower's FedAvg: ``python benchmarks/aggregation.py``.

The baseline holds the arrays of all replies in memory. A ratio of memory is its growth while aggregating against the
baseline's.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, Message, MessageType, RecordDict
from measure import arguments, resident, show

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.folders import read_update, write_update
from fcit_plugin.federation.messages import (
    ARRAYS,
    CONFIG,
    ClientConfig,
    config_record,
    part_of,
    record_of,
    to_record,
    update_reply,
)
from fcit_plugin.federation.rules import RuleSet
from fcit_plugin.knowledge.identity_tokens import ClientToken


def request(sent: dict[str, torch.Tensor], client: int) -> Message:
    """What a client was sent."""
    config = ClientConfig("benchmark", 0, 0, client, 0)
    return Message(
        RecordDict({ARRAYS: to_record(sent), CONFIG: config.to_record()}), dst_node_id=client, message_type=MessageType.TRAIN
    )


def main() -> None:
    """Print a table."""
    args = arguments(__doc__, replies=[10, 100, 1_000, 10_000], numbers=10_000)
    counts = [3, 6] if args.tiny else args.replies
    sent = {f"l.{i}.lora_A.weight": torch.zeros(args.numbers // 4) for i in range(4)}
    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        for client in range(max(counts)):
            asked = request(sent, client)
            trained = {key: torch.from_numpy(rng.standard_normal(len(value), np.float32)) for key, value in sent.items()}
            token = ClientToken(client, np.ones(8), 1, 1 + client)
            write_update(Path(folder) / str(client), config_record(asked), update_reply(asked, trained, {}, token, 0.0))
        asked = request(sent, 0)
        for count in [1, *counts]:  # the first one warms up
            found = {}
            for how in ("stream", "in memory"):
                before, start = resident(), time.perf_counter()
                replies = [read_update(Path(folder) / str(client))[1] for client in range(count)]
                if how == "in memory":
                    for reply in replies:
                        arrays = {key: Array(array.numpy()) for key, array in reply.content[ARRAYS].items()}
                        reply.content[ARRAYS] = record_of(arrays)
                parts = [part_of(reply, asked, ARRAYS) for reply in replies]
                average = RuleSet(FcitArguments()).aggregate(0, 1, parts)
                found[how] = (resident() - before, time.perf_counter() - start, average)
                del replies, parts
            same = all(torch.equal(found["stream"][2][key], found["in memory"][2][key]) for key in sent)
            assert same, "both ways must give the same bits"
            memory, baseline = found["stream"][0], found["in memory"][0]
            ratio = found["stream"][1] / found["in memory"][1]
            rows.append((count, f"{memory / 2**20:.1f}", f"{baseline / 2**20:.1f}", found["stream"][1], ratio))
    del rows[0]
    show(("replies", "stream, MiB", "in memory, MiB", "stream, s", "ratio of time"), rows)


if __name__ == "__main__":
    main()
