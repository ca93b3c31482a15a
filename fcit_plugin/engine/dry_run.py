"""``fcit_dry_run: true``: everything that a run sets up, on a model without weights, and what it would do from there."""

import sys
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from llamafactory.extras import logging
from peft import PeftModel
from torch import nn

from ..adapters.aggregation import Member
from ..adapters.base_change import add_pairs
from ..adapters.lora import Tensors, read_shared, select_factors
from ..arguments import FcitArguments
from ..federation.compression import COMPRESSIONS
from ..federation.messages import zeros_record
from ..federation.program import Program
from ..federation.rules import RuleSet
from ..files import write_json
from ..knowledge.identity_tokens import SubspaceTokens
from ..knowledge.organizer import SingleSubspace
from ..knowledge.prototypes import MAX_KINDS
from ..plan.disk import Disk
from ..plan.memory import Batch, Memory, ModelSize, estimate
from ..plan.plan import DataSummary, Plan
from ..plan.secure_sums import secure_sums
from ..plan.text import to_text
from ..plan.work import ClientWork, Payload, Schedule, Shape, TaskShare, array_bytes, idle_note
from ..recipe.devices import num_processes, zero_stage
from ..state.checkpoints import DEFAULT_LIMIT
from ..state.progress import Progress
from ..state.server_state import ServerState, tensor_files
from ..tensor_files import tensor_file_bytes
from .bound_runs import programs
from .client_training import LocalTrainer
from .open_dry_session import SAMPLE
from .session import Session
from .trainers import LOCAL_STAGES

logger = logging.get_logger(__name__)

DRY_RUN_JSON = "fcit_dry_run.json"


def dry_run(session: Session) -> Plan:
    """Print the plan of a run and write it to ``output_dir``."""
    plan = make_plan(session)
    if session.is_main:
        write_json(session.output_dir / DRY_RUN_JSON, plan.to_dict())
        print(to_text(plan))
        logger.info_rank0(f"The plan is also in {session.output_dir / DRY_RUN_JSON}.")
    return plan


def make_plan(session: Session) -> Plan:
    """Count what the session's run would do."""
    args, local, aside = session.args, session.local(), session.request.aside
    processes, sharing = num_processes(session.training_args.world_size), session.request.sharing
    evaluates = args.fcit_eval_every != "never"
    names = session.scenario.all_datasets() if evaluates else session.scenario.datasets_to_train()
    data = [_summary(session, name, evaluates) for name in names]
    turns = _turns(session.program)
    shared = _shapes(read_shared(session.model))
    compression = COMPRESSIONS.get(args.fcit_update_compression)
    payload = Payload(_shapes(session.program.blank), _shapes(turns[0]), shared, session.encoder.dimension, compression)
    found = programs(session)
    played = {name: _play(session, program) for name, program in found.items() if program.num_stages}
    travels = payload if list(found) == [""] else None
    schedules = {name: _schedule(session, found[name], local, travels, sharing, more) for name, (more, _) in played.items()}
    disks = {name: _disk(session, schedules[name], payload, sizes) for name, (_, sizes) in played.items()}
    memory = _memory(session, [n for item in data for n in item.lengths], sharing) if schedules else None
    given = session.request.given
    setting = session.scenario.name if session.earlier is not None else given.fcit_setting
    return Plan(
        title=f"{given.fcit_bound or given.fcit_method}, {setting}, seed {session.training_args.seed}",
        settings=_settings(session, payload, processes, sharing),
        data=data,
        shares=[_share(session, local, index) for index in session.scenario.tasks_to_train()],
        schedules=schedules,
        answers=_answers(session, data, found.values()) if evaluates else 0,
        memory=memory,
        disks=disks,
        notes=[
            *_notes(sharing, zero_stage(aside), session.data_args.packing),
            *_idle(schedules),
            *_few(session.program, schedules),
            *(secure_sums(session.program) if session.args.fcit_secure_sum else []),
            *_by_turns(turns),
            *_kinds(session.program, session.encoder.dimension),
        ],
        left_out=session.pipeline.left_out(),
        names=local.client_names() or (),
    )


#: Bytes to and from each client beside its weights, by stage and round.
_Beside: TypeAlias = dict[tuple[int, int], tuple[int, int]]


def _shapes(state: Tensors) -> tuple[Shape, ...]:
    return tuple(tuple(value.shape) for value in state.values())


def _turns(program: Program) -> list[Tensors]:
    """The different sets of factors that clients return, the largest first: one, or A and B where these are trained in turn."""
    trained = dict.fromkeys(program.aggregation.trains(rounds) for rounds in range(2))
    found = [select_factors(program.blank, factors) for factors in trained]
    return sorted(found, key=lambda state: -sum(map(array_bytes, _shapes(state))))


def _by_turns(turns: list[Tensors]) -> list[str]:
    if len(turns) == 1:
        return []
    return ["A and B are trained, and returned, in turn: the bytes sent by clients are those of the larger one in every round."]


def _kinds(program: Program, dimension: int) -> list[str]:
    if not program.method.reports_kinds:
        return []
    most = array_bytes((MAX_KINDS, dimension)) + array_bytes((MAX_KINDS,), "int64")
    return [
        "How many kinds of instructions a client tells is seen with the model's weights and not counted here: "
        f"up to {2 * most:,} more bytes from each client in a round."
    ]


def _summary(session: Session, name: str, evaluates: bool) -> DataSummary:
    test = None
    if evaluates:  # counted, not taken: few of the records are tokenized
        test = min(len(session.pipeline.test(name)), session.args.fcit_eval_samples or sys.maxsize)
    if name not in session.scenario.datasets_to_train():
        return DataSummary(name, None, test, [])
    split = session.pipeline.train(name)
    return DataSummary(name, len(split), test, split.lengths.tolist())


def _share(session: Session, local: LocalTrainer, index: int) -> TaskShare:
    sizes = [len(local.records(client, index)) for client in range(session.args.fcit_num_clients)]
    return TaskShare(session.scenario.tasks[index].name, sizes)


def _schedule(
    session: Session, program: Program, local: LocalTrainer, payload: Payload | None, processes: int, more: _Beside
) -> Schedule:
    work = []
    for stage in range(program.scenario.first_stage, program.num_stages):
        for round in range(session.args.fcit_num_rounds):
            for client, config in program.work(stage, round).items():
                records, steps = len(local.records(client, config.task)), local.num_steps(config, processes)
                place = (stage, round, client, program.task_name(config))
                idle = local.why_idle(config, processes)
                work.append(ClientWork(*place, records, steps, *more[stage, round], idle=idle))
    return Schedule(tuple(work), payload)


def _play(session: Session, program: Program) -> tuple[_Beside, list[int]]:
    """What the method and the server rule do in each round, played without values.

    Returns:
        Bytes to and from each client beside its weights, by stage and round; and the bytes of the commits before the first
        round and after each.
    """
    shared = read_shared(session.model)
    update, of_rule = {**program.blank, **shared}, {**_turns(program)[0], **shared}
    state = ServerState(SubspaceTokens.empty(session.encoder.dimension), shared)
    earlier = session.earlier
    if earlier is not None and earlier.changes_base and not program.aggregation.changes_base:  # it stays as it was
        state.base = earlier.load(session.processes)[0].base
    method, rules = program.method, program.rules(state)
    found: _Beside = {}
    sizes = [_state_bytes(state)]
    asked: set[tuple[int, int]] = set()
    single = isinstance(method.organizer(0), SingleSubspace)
    most = 1 if single else getattr(method.organizer(0), "max_subspaces", None)
    for state.stage in range(program.num_stages):
        if most is None or len(state.subspaces) < most:
            state.subspaces.append(program.blank)
            count = len(state.subspaces)
            dimension = session.encoder.dimension
            state.tokens = SubspaceTokens(np.zeros((count, dimension), np.float32), np.zeros(count, np.int64))
            state.projectors = [shared] * count if method.keeps_projectors and shared else []
        for state.round in range(session.args.fcit_num_rounds):
            down = [*method.sends(state).values(), state.base, *(of_rule for _ in rules.sends)]
            wants = method.wants(state.stage, state.round)
            up = [*(of_rule for _ in rules.wants), *(update for _ in {*wants} - {*rules.wants})]
            bytes_down, bytes_up = (
                sum(array_bytes(value.shape) for record in records for value in record.values()) for records in (down, up)
            )
            found[state.stage, state.round] = bytes_down, bytes_up
            state.base = _base_after(program, state) or state.base
            state.method_state = method.remember(state, state, [dict.fromkeys(wants, update)], [1])
            asked |= {(client, state.stage) for client in program.work(state.stage, state.round)}
            sizes.append(_state_bytes(state) + _remembered(program, state) + _kept_by_clients(program, shared, asked))
    return found, sizes


def _state_bytes(state: ServerState) -> int:
    known: dict[int, int] = {}  # all subspaces of a plan are one and the same, which is counted once
    found = 0
    for tensors, metadata in tensor_files(state).values():
        if id(tensors) not in known:
            known[id(tensors)] = tensor_file_bytes(tensors, metadata)
        found += known[id(tensors)]
    return found


def _kept_by_clients(program: Program, shared: Tensors, asked: set[tuple[int, int]]) -> int:
    """Most bytes that simulated clients keep to themselves: what rounding has left of each subspace, and of what is shared."""
    compression = COMPRESSIONS.get(program.args.fcit_update_compression)
    if compression is None or not compression.feedback:
        return 0
    own = sum(value.numel() for value in program.blank.values()) * len(asked)
    return 4 * (own + sum(value.numel() for value in shared.values()) * len({client for client, _ in asked}))


def _remembered(program: Program, state: ServerState) -> int:
    """Bytes of what the server rules remember of all weights, which they show on weights of one number each."""
    of_each = {"rule": program.blank, RuleSet.SHARED: state.shared}
    size = 0
    for owner, weights in of_each.items():
        if not weights:
            continue
        found = RuleSet(program.args).after_a_round(owner, zeros_record({key: torch.zeros(1) for key in weights}))
        arrays = [array for array in found.values() if array.ndim]
        numbers = sum(value.numel() for value in weights.values()) * (len(state.subspaces) if owner == "rule" else 1)
        size += sum(array.itemsize for array in arrays) * numbers // len(weights)
    return size


def _disk(session: Session, schedule: Schedule, payload: Payload, sizes: list[int]) -> Disk:
    """What a run with these commits takes on disk."""
    args = session.args
    reply = payload.up - array_bytes((payload.dimension,))  # the token in the answer to a query is kept nowhere
    rounds = [sum(reply + work.more_up for work in works) for works in schedule.rounds()]
    limit = session.training_args.save_total_limit
    return Disk(
        commits=sizes,
        kept=DEFAULT_LIMIT if limit is None else limit,
        replies=max(rounds),
        updates=sum(rounds) if args.fcit_keep_client_updates else 0,
    )


def _base_after(program: Program, state: ServerState) -> Tensors:
    """Shapes of what was added to the base weights after a round whose clients all reply."""
    if not program.aggregation.changes_base:
        return {}
    count = len(program.work(state.stage, state.round))
    members = [Member(1 / count, program.blank)] * count
    combined = program.aggregation.combine(program.blank, program.blank, members, program.blank)
    return add_pairs(state.base, combined.base)


def _answers(session: Session, data: list[DataSummary], found: Iterable[Program]) -> int:
    """Most answers that all evaluations generate: one a test record, after training one more if that is no label of the set."""
    args, scenario = session.args, session.scenario
    earlier = session.earlier.progress if session.earlier is not None else Progress()
    labels = session.pipeline.label_sets(scenario.datasets_to_train(), earlier.labels)
    tests = {item.name: item.test for item in data if item.test is not None}
    closed = {name for name in tests if labels.get(name) is not None}
    times = args.fcit_num_rounds if args.fcit_eval_every == "round" else 1
    unknown = tests.keys() - (earlier.zero_shot or {}).keys()
    answers = sum(tests[name] for name in unknown) if args.fcit_zero_shot else 0
    for program in found:
        first = program.num_stages - 1 if args.fcit_eval_every == "last" else scenario.first_stage
        for stage in range(max(first, scenario.first_stage), program.num_stages):
            seen = scenario.seen_datasets(stage)
            restricted = {"true": times, "last": int(stage + 1 == program.num_stages), "false": 0}
            answers += times * sum(tests[name] for name in seen)
            answers += restricted[args.fcit_eval_restricted] * sum(tests[name] for name in closed.intersection(seen))
    return answers


def model_size(model: PeftModel, bits: int | None) -> ModelSize:
    """What the memory estimate has to know about a model.

    Args:
        model: PEFT model, with or without weights.
        bits: ``quantization_bit``, of the linear layers but the last.
    """
    quantized = {
        id(module.weight) for name, module in model.named_modules()
        if bits and isinstance(module, nn.Linear) and "lm_head" not in name
    }  # fmt: skip
    frozen, trained = 0, []
    for parameter in model.parameters():
        if parameter.requires_grad:
            trained.append(parameter)
        elif bits and id(parameter) in quantized:
            frozen += parameter.numel() * bits // 8
        else:
            frozen += parameter.numel() * parameter.itemsize
    config = model.config.get_text_config()
    return ModelSize(
        frozen_bytes=frozen,
        trained=sum(parameter.numel() for parameter in trained),
        trained_width=max(parameter.itemsize for parameter in trained),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
    )


def _memory(session: Session, lengths: list[int], processes: int) -> Memory:
    aside, args = session.request.aside, session.training_args
    half = args.bf16 or any(aside.get(key) for key in ("fp16", "pure_bf16")) or session.model.dtype.itemsize == 2
    packing = session.data_args.packing
    longest = session.data_args.cutoff_len + 1 if packing else max(lengths)  # to which LLaMA-Factory fills a pack up
    batch = Batch(
        records=args.per_device_train_batch_size * LOCAL_STAGES[session.args.fcit_local_stage].sequences,
        tokens=longest + -longest % 8,  # LLaMA-Factory's collator pads to a multiple of 8
        width=2 if half else 4,
        checkpointing=not session.model_args.disable_gradient_checkpointing,
    )
    size = model_size(session.model, aside.get("quantization_bit"))
    return estimate(size, batch, processes=processes, zero_stage=zero_stage(aside))


def _settings(session: Session, payload: Payload, processes: int, sharing: int) -> dict[str, str]:
    args, training, tuning = session.args, session.training_args, session.finetuning_args
    total = sum(p.numel() for p in session.model.parameters() if not p.requires_grad)
    subspace, shared = (sum(int(np.prod(s)) for s in shapes) for shapes in (payload.subspace, payload.shared))
    batch = training.per_device_train_batch_size * sharing * training.gradient_accumulation_steps
    rate = training.learning_rate
    chosen = f" ({session.encoder_choice})" if session.encoder_choice and args.fcit_identity_source != "image" else ""
    return {
        "model": f"{session.base_model}, {total / 1e6:,.1f} M parameters, template {session.data_args.template}",
        "trained": f"{subspace:,} numbers in a subspace (rank {tuning.lora_rank}, alpha {tuning.lora_alpha}, "
        f"{len(payload.subspace) // 2} layers), {shared:,} shared",
        "identity tokens": f"{_made_of(args)}, {payload.dimension} numbers{chosen}",
        **({"goes on from": f"{session.earlier.folder}, {session.scenario.first_stage} stages"} if session.earlier else {}),
        "federation": f"{session.scenario.num_stages - session.scenario.first_stage} stages of {args.fcit_num_rounds} rounds, "
        f"{args.fcit_clients_per_round} of {args.fcit_num_clients} clients a round",
        "partition": str(session.partition.options),
        "batch": f"{batch} records a step (processes {sharing} x {training.per_device_train_batch_size} x "
        f"{training.gradient_accumulation_steps})",
        **({"engine": f"parallel: {processes} processes train clients of their own"} if processes > sharing else {}),
        "schedule": f"epochs {training.num_train_epochs:g}, {training.lr_scheduler_type.value}, learning rate {rate:g}, "
        f"shared {args.fcit_projector_learning_rate or rate:g}",
    }


def _made_of(args: FcitArguments) -> str:
    text = args.fcit_identity_encoder
    return {"text": text, "image": "vision tower", "both": f"{text} and vision tower"}[args.fcit_identity_source]


def _notes(processes: int, stage: int, packing: bool) -> list[str]:
    guessed = "Activations are an estimate."
    if not packing:
        guessed = (
            f"Token lengths are those of {SAMPLE} records a dataset, the rest is not tokenized yet; activations are an "
            "estimate."
        )
    exact = f"Clients, records, steps and bytes are exact, as long as no client fails. {guessed}"
    notes = [
        exact,
        "Which subspace a client trains is found in the run, from its identity token.",
        "The weights of the base model and of the identity encoder were not read.",
    ]
    if stage:
        notes.append(f"DeepSpeed ZeRO-{stage} over {processes} processes; NPROC_PER_NODE=8 in front counts for 8.")
    return notes


def _few(program: Program, schedules: Mapping[str, Schedule]) -> list[str]:
    least = program.args.fcit_identity_min_records
    works = [work for schedule in schedules.values() for work in schedule.work]
    few = sum(0 < work.records < least for work in works)
    if not program.method.by_tokens or not few:
        return []
    notes = [
        f"{few} of {len(works)} turns of clients are with fewer than {least} records (`fcit_identity_min_records`): these send "
        "no identity token, and wait while no subspace is their own."
    ]
    rounds = [work for schedule in schedules.values() for work in schedule.rounds()]
    waiting = [f"stage {work[0].stage}, round {work[0].round}" for work in rounds if all(w.records < least for w in work)]
    if waiting:
        notes.append(
            f"All clients that are asked have so few in {'; '.join(waiting)}: unless earlier rounds leave a subspace that is "
            "theirs, the run ends there. A lower `fcit_identity_min_records`, or more records a client, lets it go on."
        )
    return notes


def _idle(schedules: Mapping[str, Schedule]) -> list[str]:
    note = idle_note([work.idle for schedule in schedules.values() for work in schedule.work])
    return [] if note is None else [note]
