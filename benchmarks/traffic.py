"""Bytes that travel, against sending all subspaces: ``python benchmarks/traffic.py``.

A run of FCIT-mini with one step a client. Per client and round it sends one subspace each way; the baseline is a client that
gets and returns every subspace of that time, beside the same projector and token. What `fcit_update_compression` would make of
it is counted, not run: those bytes are known beforehand.
"""

import tempfile
from pathlib import Path

import torch
from measure import arguments, session, show


def size(state: dict[str, torch.Tensor]) -> int:
    """Bytes of a state's numbers."""
    return sum(4 * value.numel() for value in state.values())


def main() -> None:
    """Print a table."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    stages = {"fcit_setting": "custom", "fcit_stages": [["fcit_clevr_math"], ["fcit_ocrvqa"]]} if args.tiny else {}
    with tempfile.TemporaryDirectory() as folder:
        found = session(Path(folder), **stages, fcit_num_rounds=1, fcit_eval_every="never", fcit_zero_shot=False, max_steps=1)
        from fcit_plugin.engine.run import FederatedRun
        from fcit_plugin.federation.compression import COMPRESSIONS
        from fcit_plugin.plan.work import Payload

        run = FederatedRun(found)
        run()
    rows, subspaces, all_up, all_down = run.progress.assignments, 0, 0, 0
    subspace, shared = size(found.program.blank), size(run.state.shared)
    token = 4 * run.state.tokens.sums.shape[1]
    for row in rows:
        subspaces = max(subspaces, row["subspace"] + 1)
        all_up += subspaces * subspace + shared + token
        all_down += subspaces * subspace + shared
    count, traffic = len(rows), run.progress.traffic
    own, projector = ([tuple(v.shape) for v in state.values()] for state in (found.program.blank, run.state.shared))
    parts = (tuple(own), tuple(own), tuple(projector), run.state.tokens.sums.shape[1])
    compressed = {name: Payload(*parts, compression).up for name, compression in COMPRESSIONS.items()}
    show(
        ("", "one subspace", f"all ({subspaces} at the end)", "ratio"),
        [
            ("up, kB a client and round", traffic.up / count / 1e3, all_up / count / 1e3, traffic.up / all_up),
            *((f"up with {name}", up / 1e3, all_up / count / 1e3, up * count / all_up) for name, up in compressed.items()),
            ("down, kB a client and round", traffic.down / count / 1e3, all_down / count / 1e3, traffic.down / all_down),
        ],
    )


if __name__ == "__main__":
    main()
