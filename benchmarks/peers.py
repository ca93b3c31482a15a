"""What federated LoRA costs beside its optimizer steps, against one model load a client: ``python benchmarks/peers.py``.

The peer is what Flower's example apps for language models do: the ClientApp loads the base model, adds a LoRA, trains with
Hugging Face's Trainer and returns the factors; the ServerApp's FedAvg averages them. Flower's own strategy and messages, in one
process, without its runtimes. Ours is ``stage: fcit`` with ``fcit_method: sequential``. Both train the embedded text model on
the same texts: as many clients, rounds and optimizer steps. What is printed is the wall time that is none of a
Trainer's ``train``, and the peak of resident memory, each in a process of its own. The model is tiny (2 M numbers): a larger
one makes a load dearer, and so the peer.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"LLAMAFACTORY_VERBOSITY": "ERROR", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}

CLIENTS, BATCH, RATE, TARGETS = 4, 8, 1e-3, ("q_proj", "k_proj", "v_proj", "o_proj")


def ours(rounds: int, data: Path, out: Path) -> None:
    """``stage: fcit``."""
    from llamafactory.train.tuner import run_exp

    keys = {
        "model_name_or_path": "fcit-mini-text", "stage": "fcit", "do_train": True, "finetuning_type": "lora", "lora_rank": 8,
        "lora_target": ",".join(TARGETS), "fcit_method": "sequential", "fcit_setting": "custom", "fcit_stages": [["text_last"]],
        "fcit_num_clients": CLIENTS, "fcit_clients_per_round": CLIENTS, "fcit_num_rounds": rounds, "fcit_partition": "iid",
        "fcit_eval_every": "never", "fcit_batch_size": BATCH, "learning_rate": RATE, "num_train_epochs": 1.0,
        "dataset_dir": str(data), "template": "default", "cutoff_len": 128, "output_dir": str(out), "report_to": "none",
        "disable_tqdm": True, "disable_gradient_checkpointing": True, "plot_loss": False,
    }  # fmt: skip
    run_exp(keys)


def peer(rounds: int, data: Path, out: Path) -> None:
    """A ClientApp that loads the model for each message, and Flower's FedAvg."""
    import torch
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp.strategy import FedAvg
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

    from fcit_plugin.federation.in_process_grid import InProcessGrid
    from fcit_plugin.samples.text import text_model_path

    info = json.loads((data / "dataset_info.json").read_text())["text_last"]
    records = json.loads((data / info["file_name"]).read_text())

    def load():
        model = AutoModelForCausalLM.from_pretrained(text_model_path())
        return get_peft_model(model, LoraConfig(r=8, target_modules=list(TARGETS), task_type="CAUSAL_LM"))

    app = ClientApp()

    @app.train()
    def train(message, context):
        tokenizer = AutoTokenizer.from_pretrained(text_model_path())
        own = records[context.node_id :: CLIENTS]
        texts = [tokenizer(" ".join(map(str, record.values())), truncation=True, max_length=128) for record in own]
        model = load()
        set_peft_model_state_dict(model, message.content["arrays"].to_torch_state_dict())
        arguments = TrainingArguments(
            output_dir=str(out), per_device_train_batch_size=BATCH, learning_rate=RATE, num_train_epochs=1.0, report_to=[],
            save_strategy="no", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        loss = Trainer(model, arguments, collator, texts).train().training_loss
        state = {key: value.contiguous() for key, value in get_peft_model_state_dict(model).items()}
        metrics = MetricRecord({"loss": float(loss), "num-examples": len(own)})
        return Message(RecordDict({"arrays": ArrayRecord(state), "metrics": metrics}), reply_to=message)

    class Direct(InProcessGrid):
        """Calls the app with each message, whatever is in it."""

        def send_and_receive(self, messages, *, timeout=None):
            parts = {"node_config": {}, "state": RecordDict(), "run_config": {}}
            return [app(message, Context(run_id=0, node_id=message.metadata.dst_node_id, **parts)) for message in messages]

    torch.manual_seed(0)
    start = {key: value.contiguous() for key, value in get_peft_model_state_dict(load()).items()}
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    strategy.start(
        grid=Direct(app, range(CLIENTS)), initial_arrays=ArrayRecord(start), num_rounds=rounds, train_config=ConfigRecord()
    )


def measured(name: str, rounds: int, data: Path) -> dict[str, float]:
    """Seconds beyond training, trainings, and MB at the most, of one of the two in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--rounds", str(rounds), "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print both, for few and for more rounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        import transformers
        from timing import timed_calls

        start = time.perf_counter()
        with timed_calls(transformers.Trainer, "train") as found, tempfile.TemporaryDirectory() as out:
            {"ours": ours, "peer": peer}[args.one](args.rounds, args.data, Path(out) / "run")
        beyond = time.perf_counter() - start - sum(found)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"beyond": beyond, "trainings": len(found), "memory": memory}))
        return
    from fcit_plugin.samples.text import write_text_tasks

    with tempfile.TemporaryDirectory() as folder:
        write_text_tasks(Path(folder), train=400, test=20)
        print(f"{CLIENTS} clients, batch {BATCH}; seconds beside Trainer.train, MB at the most; imports included")
        for rounds in (args.rounds, 3 * args.rounds):
            both = {name: measured(name, rounds, Path(folder)) for name in ("ours", "peer")}
            for name, found in both.items():
                beyond, memory = f"{found['beyond']:.1f} s", f"{found['memory']:.0f} MB"
                print(f"  {rounds} rounds, {found['trainings']} trainings, {name}: {beyond}, {memory}")
            print(f"  {rounds} rounds: {both['ours']['beyond'] / both['peer']['beyond']:.2f} of the peer's seconds")


if __name__ == "__main__":
    main()
