"""How often a schedule has too few clients for a secure sum, counted before anything runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..federation.program import Program
from ..knowledge.organizer import SingleSubspace


@dataclass(frozen=True)
class SumCount:
    """The sums of a schedule, one for each subspace of each round.

    Attributes:
        sums: How many there are.
        small: How many of them have too few clients.
        updates: Clients in all sums.
        lost: Clients in those with too few.
    """

    sums: int
    small: int
    updates: int
    lost: int


def count_sums(rounds: Iterable[Mapping[int, int]], least: int) -> SumCount:
    """Count the sums of a schedule.

    Args:
        rounds: For each round how many clients are in each of its sums.
        least: The fewest clients of a sum that is opened.
    """
    sizes = [size for round in rounds for size in round.values() if size]
    small = [size for size in sizes if size < least]
    return SumCount(len(sizes), len(small), sum(sizes), sum(small))


def sums_note(counts: Mapping[int, SumCount], per_round: int, least: int) -> str | None:
    """What the plan says of them; None where every sum has enough.

    Args:
        counts: The count by the number of clients in a round: that of the recipe, and larger ones.
        per_round: That of the recipe.
        least: The fewest clients of a sum.
    """
    now, most = counts[per_round], max(counts)
    if not now.small:
        return None
    enough = [clients for clients, count in sorted(counts.items()) if clients > per_round and not count.small]
    remedy = (
        f"`fcit_clients_per_round: {enough[0]}` leaves none out."
        if enough
        else f"with all {most} clients in each round it is {counts[most].small} of {counts[most].sums} sums."
    )
    small, lost = (
        f"{part} of {whole} {what} ({100 * part / whole:.0f} %)"
        for part, whole, what in (
            (now.small, now.sums, "sums of subspaces"),
            (now.lost, now.updates, "updates"),
        )
    )
    return (
        f"Secure sums: {small} have fewer than {least} clients (`fcit_secure_min_clients`), and so {lost} are left out; "
        f"{remedy} Counted as one subspace for each task, with every client there."
    )


def secure_sums(program: Program) -> list[str]:
    """How often a subspace of the schedule has too few clients for a secure sum.

    Which client trains which subspace is found in the run; a task stands for its subspace here, and a method that has but one
    puts all clients of a round into it.
    """
    args, scenario = program.args, program.scenario
    single = isinstance(program.method.organizer(0), SingleSubspace)
    stages = range(scenario.first_stage, program.num_stages)

    def of_round(tasks: Iterable[int]) -> Counter[int]:
        return Counter(0 if single else task for task in tasks)

    planned = [
        of_round(config.task for config in program.work(stage, round).values())
        for stage in stages
        for round in range(args.fcit_num_rounds)
    ]
    counts = {args.fcit_clients_per_round: count_sums(planned, args.fcit_secure_min_clients)}
    seats = [of_round(scenario.task_of(stage, place) for place in range(args.fcit_clients_per_round)) for stage in stages]
    for clients in range(args.fcit_clients_per_round + 1, args.fcit_num_clients + 1):
        for stage, seated in zip(stages, seats, strict=True):
            seated.update(of_round([scenario.task_of(stage, clients - 1)]))
        counts[clients] = count_sums(seats * args.fcit_num_rounds, args.fcit_secure_min_clients)
    note = sums_note(counts, args.fcit_clients_per_round, args.fcit_secure_min_clients)
    return [] if note is None else [note]
