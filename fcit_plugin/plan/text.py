"""The plan of a run as it is printed."""

from collections.abc import Sequence

from ..evaluation.tables import align
from .disk import Disk
from .memory import Memory
from .plan import DataSummary, Plan
from .work import ClientWork, Schedule, TaskShare

#: Clients of a task that are named in one round.
_NAMED = 12


def to_text(plan: Plan) -> str:
    """What a dry run prints."""
    blocks = [f"FCIT dry run: {plan.title}. Nothing is trained."]
    blocks.append(_block("Settings", [[f"{name}:", value] for name, value in plan.settings.items()]))
    blocks.append(_block("Datasets", _data_rows(plan.data)))
    if plan.schedules:
        blocks.append(_block("Records of a client", _share_rows(plan.shares)))
    for name, schedule in plan.schedules.items():
        blocks.append(_block(f"Who trains what when{f' ({name})' if name else ''}", _round_rows(schedule, plan.names)))
    blocks.append(_block("In all", _total_rows(plan)))
    if plan.memory:
        blocks.append(_block("Memory of one process", _memory_rows(plan.memory)))
    for name, disk in plan.disks.items():
        blocks.append(_block(f"Disk{f' ({name})' if name else ''}", _disk_rows(disk)))
    if plan.left_out:
        counts = ", ".join(f"{count:,} of {name}" for name, count in plan.left_out.items())
        blocks.append(f"Records left out, as LLaMA-Factory leaves them out: {counts}.")
    blocks += [f"Note: {note}" for note in plan.notes]
    return "\n\n".join(blocks)


def _block(title: str, rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in align(rows))])


def _data_rows(data: Sequence[DataSummary]) -> list[list[str]]:
    rows = [["", "train", "test", "tokens (mean, longest of a sample)"]]
    for item in data:
        train, test = ("-" if count is None else f"{count:,}" for count in (item.train, item.test))
        lengths = item.lengths
        tokens = f"{sum(lengths) / len(lengths):.0f}, {max(lengths)} of {len(lengths)} records" if lengths else "-"
        rows.append([item.name, train, test, tokens])
    return rows


def _share_rows(shares: Sequence[TaskShare]) -> list[list[str]]:
    rows = [["task", "smallest", "median", "largest"]]
    for share in shares:
        found = share.summary()
        rows.append([found["task"], f"{found['smallest']:,}", f"{found['median']:,.0f}", f"{found['largest']:,}"])
    return rows


def _round_rows(schedule: Schedule, names: Sequence[str]) -> list[list[str]]:
    rows = [["stage", "round", "steps", "task: client (records)"]]
    for work in schedule.rounds():
        steps = sum(w.steps for w in work)
        tasks: dict[str, list[ClientWork]] = {}
        for w in work:
            tasks.setdefault(w.task, []).append(w)
        clients = "; ".join(f"{task}: {_clients_text(those, names)}" for task, those in tasks.items())
        rows.append([str(work[0].stage), str(work[0].round), f"{steps:,}", clients])
    return rows


def _clients_text(works: Sequence[ClientWork], names: Sequence[str]) -> str:
    """As many clients as a line has room for, and how many there are beside them: the JSON has all."""
    shown = ", ".join(_client_text(work, names) for work in works[:_NAMED])
    if len(works) <= _NAMED:
        return shown
    return f"{shown} and {len(works) - _NAMED} more ({sum(work.records for work in works[_NAMED:]):,})"


def _client_text(work: ClientWork, names: Sequence[str]) -> str:
    return f"{names[work.client] if names else work.client} ({work.records:,})"


def _total_rows(plan: Plan) -> list[list[str]]:
    rows = [["optimizer steps:", f"{plan.steps:,}"]]
    trainings = sum(len(schedule.work) for schedule in plan.schedules.values())
    rows.append(["local trainings:", f"{trainings:,}"])
    rows.append(["answers generated, at most:", f"{plan.answers:,}"])
    for schedule in plan.schedules.values():
        if schedule.payload:
            each = f"{megabytes(schedule.payload.up)} a client and round"
            rows.append(["sent by clients:", f"{megabytes(plan.bytes_up)} ({each})"])
            each = f"{megabytes(schedule.payload.down)} a client and round"
            rows.append(["received by clients:", f"{megabytes(plan.bytes_down)} ({each})"])
    return rows


def _memory_rows(memory: Memory) -> list[list[str]]:
    return [
        ["base weights:", megabytes(memory.frozen)],
        ["trained weights:", megabytes(memory.trained)],
        ["gradients:", megabytes(memory.gradients)],
        ["optimizer states:", megabytes(memory.optimizer)],
        ["activations:", f"about {megabytes(memory.activations)}"],
        ["together:", f"about {megabytes(memory.total)}"],
    ]


def _disk_rows(disk: Disk) -> list[list[str]]:
    rows = [
        ["a commit, and the results:", f"up to {megabytes(disk.commit)}"],
        ["replies of a round:", f"up to {megabytes(disk.replies)}"],
    ]
    if disk.updates:
        rows.append(["updates that are kept:", megabytes(disk.updates)])
    kept = f"{disk.kept} of its commits" if disk.kept else "all of its commits"
    return [*rows, [f"a run at most, keeping {kept} (`save_total_limit`):", megabytes(disk.most)]]


def megabytes(number: int) -> str:
    """A size in units of 10^6 or 10^9 bytes."""
    return f"{number / 1e9:,.2f} GB" if number >= 1e9 else f"{number / 1e6:,.2f} MB"
