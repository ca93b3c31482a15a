"""All checks, in the order in which they are made."""

from . import answers, precision, processes, runs, speed
from .check import Check

_COUNTS_GPU = "the CPU's memory cannot be taken away from a process"

CHECKS: tuple[Check, ...] = (
    Check("bf16", "a bfloat16 LLaVA learns; subspaces and projector are float32", runs.half_precision),
    Check("cpu", "tokens, assignments and weights are those of a CPU", runs.cpu_and_gpu),
    Check("resume", "a killed run goes on to the same weights", runs.resume),
    Check("resume-z2", "the same with ZeRO-2", runs.resume_zero_2),
    Check("memory", "twelve clients leave no more memory in use than two", runs.memory),
    Check("memory-z2", "the same with ZeRO-2", runs.memory_zero_2),
    Check("memory-z3", "the same with ZeRO-3", runs.memory_zero_3),
    Check("z3-encoder", "ZeRO-3 takes a text encoder (CLIP) whole", runs.zero_3_encoder),
    Check("scheduler", "a DeepSpeed file with a scheduler fits each client", runs.scheduler),
    Check("z2-offload", "an offloaded optimizer gives the same", runs.offloaded_optimizer),
    Check("routed", "a mixed batch is answered as by PEFT's weighted sum", answers.routed),
    Check("chat", "two threads of a chat get the answers of one", answers.chat),
    Check("offload", "offloaded layers answer as those on the device", answers.offloaded),
    Check("fp16", "fp16 trains, and what changes gradients is refused", precision.fp16, on_cpu="fp16 is for GPUs"),
    Check("qlora", "a base model in four bits trains and chats", precision.four_bits),
    Check("fa2", "FlashAttention 2 trains", precision.flash_attention, on_cpu="it is for GPUs"),
    Check("liger", "liger's kernels train, or are refused", precision.liger, on_cpu="they are for GPUs"),
    Check("memory-small", "too little memory ends a run in a sentence; it goes on", runs.out_of_memory, on_cpu=_COUNTS_GPU),
    Check("export", "a model merged on the device is that merged on the CPU", answers.export),
    Check("projectors", "images are seen through each subspace's projector", answers.own_projectors),
    Check("speed", "eight routed subspaces take at most 1.15 of one LoRA", speed.routed),
    Check("step", "a training step of a 7B's shapes", speed.training),
    Check("server", "the server's side of a 7B's round takes at most 15 CPU seconds", speed.server),
    Check("ddp", "two processes give what one gives at the same batch", processes.ddp, gpus=2),
    Check("ddp-z2", "the same with ZeRO-2", processes.zero_2, gpus=2),
    Check("ddp-z3", "the same with ZeRO-3", processes.zero_3, gpus=2),
    Check("one-dies", "a process that dies ends both, and the run goes on", processes.one_dies, gpus=2),
    Check("records", "a dry run on all GPUs says how many records a step takes", processes.records_a_step, gpus=2),
    Check("two-gpus", "a model on two GPUs answers as on one", answers.two_devices, gpus=2, on_cpu="there is one CPU"),
    Check("parallel", "whole clients in two processes give the bits of one", processes.parallel, gpus=2),
)
"""Names are what ``fcit-cli gpu-check NAME`` takes."""
