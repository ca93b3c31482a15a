"""Does memory grow with the clients of a run? ``python benchmarks/memory.py``.

200 clients one after the other on FCIT-mini, two steps each: resident memory after each, against that after client 5.
``--deepspeed recipes/deepspeed/ds_z2_config.json`` does it with DeepSpeed. Goal: at most 2 % from client 5 on.
"""

import tempfile
from pathlib import Path

import torch
from measure import arguments, resident, session, show


def main() -> None:
    """Print a table."""
    args = arguments(__doc__, clients=200, deepspeed="")
    torch.set_num_threads(1)
    clients = 10 if args.tiny else args.clients
    changes = {"deepspeed": args.deepspeed} if args.deepspeed else {}
    with tempfile.TemporaryDirectory() as folder:
        found = session(
            Path(folder),
            **changes,
            fcit_setting="custom",
            fcit_stages=[["fcit_clevr_math"]],
            fcit_num_clients=10,
            fcit_clients_per_round=5,
            fcit_num_rounds=clients // 5,
            fcit_eval_every="never",
            max_steps=2,
        )
        from fcit_plugin.engine.client_training import LocalTrainer
        from fcit_plugin.engine.run import FederatedRun

        after: list[int] = []
        original = LocalTrainer.train

        def train(self, *train_args):
            trained = original(self, *train_args)
            after.append(resident())
            return trained

        LocalTrainer.train = train
        try:
            FederatedRun(found)()
        finally:
            LocalTrainer.train = original
    base = after[4]
    marks = sorted({1, 5, 10, 20, 50, 100, 150, clients} & set(range(1, clients + 1)))
    show(
        ("after client", "MiB", "ratio to client 5"),
        [(number, f"{after[number - 1] / 2**20:.1f}", f"{after[number - 1] / base:.4f}") for number in marks],
    )


if __name__ == "__main__":
    main()
