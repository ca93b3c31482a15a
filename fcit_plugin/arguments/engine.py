"""Where clients run, and how many records one of their optimizer steps takes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import check_at_least, option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


#: Threads of a process, and processes of a device, beyond which a machine fails before it says why.
MOST_THREADS, MOST_CLIENTS = 1024, 64


@dataclass
class EngineArguments:
    """Processes, threads, devices, and the batch of all of them together."""

    fcit_engine: str = option(
        "auto",
        "Who trains a client where there are several processes: process (they share each of its steps), parallel (one of "
        "them trains it alone, while the others train other clients), auto (parallel where that can be); flower: the clients "
        "are sites that answer over a network (fcit_sites).",
        choices=["auto", "process", "parallel", "flower"],
    )
    fcit_batch_size: int | None = option(
        None,
        "Records in one optimizer step of one client, however many processes share it; `gradient_accumulation_steps` is "
        "worked out, and `per_device_train_batch_size` is the most that a device takes at a time.",
    )
    fcit_threads: int | None = option(
        None,
        "Threads that each process computes with on the CPU; left out, with fcit_engine parallel the machine's cores "
        "divided by its processes, and else as PyTorch has it.",
    )
    fcit_clients_per_device: int = option(
        1,
        "Clients that one device (or a machine without any) trains at the same time, with fcit_engine parallel: that "
        "many processes share it, each with a model of its own.",
    )


def check_engine(args: "FcitArguments") -> None:
    """Refuse values that cannot work together."""
    check_at_least(args, 1, "fcit_batch_size", "fcit_threads", "fcit_clients_per_device")
    for name, most in (("fcit_threads", MOST_THREADS), ("fcit_clients_per_device", MOST_CLIENTS)):
        if (getattr(args, name) or 0) > most:
            refuse(f"`{name}` is {getattr(args, name)}, and no machine has use for more than {most}; lower it.")
    if args.fcit_clients_per_device > 1 and args.fcit_engine == "process":
        refuse(
            "`fcit_clients_per_device` belongs to `fcit_engine: parallel`; with `process` all processes train one client at a "
            "time, set it to 1."
        )
