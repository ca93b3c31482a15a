"""A relay: the clients of one subspace train one after the other, each from what the one before it has returned.

The clients of a round that train one subspace are a chain. The first link begins with what the server has, each other one with
the subspace and the shared trainables that the link before it has returned; the last reply is that of the chain, which counts
as one client with the examples of all its links. Chains go on beside each other, in waves: wave j asks the j-th link of each.
To the subspaces' rules and to that of the shared trainables chains are what clients are without a relay. Identity tokens are
told by every client, and weigh, as ever.

Chang et al. 2018 (J. Am. Med. Inform. Assoc. 25(8), cyclical weight transfer) train institutions in turn; FedSeq (Zaccone et
al., ICPR 2022, arXiv 2201.10899) does so within groups of clients and averages the groups, which is what chains of several
subspaces do to a projector; Li and Lyu (NeurIPS 2023) bound the convergence of sequential training. Same bytes and same passes
as in parallel, and as many waves of waiting as the longest chain has links.

A client's turn depends on the seed, the round and its own number alone, not on who else is there: whoever fails, or whose reply
is refused, is left out, and the next link begins with the last good reply.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from flwr.app import Array, Message, MetricRecord, RecordDict

from ..knowledge.organizer import Assignment
from .arrays import numbers_of
from .messages import CONFIG, METRICS, NUM_EXAMPLES, arrays_of, config_of, metrics_of, num_examples, record_of, weight_names
from .program import Program

Judged = tuple[dict[int, Message], dict[int, str]]


def chains_of(program: Program, stage: int, round: int, assignment: Assignment) -> list[list[int]]:
    """The clients of each subspace that is trained, in the order of their turns; by subspace.

    Args:
        program: Scenario and method.
        stage: t.
        round: r.
        assignment: Who trains which subspace.
    """
    chains: dict[int, list[int]] = {}
    for client, k in assignment.subspace.items():
        chains.setdefault(k, []).append(client)
    return [sorted(clients, key=lambda client: program.turn(stage, round, client)) for _, clients in sorted(chains.items())]


def train_in_turn(
    requests: Mapping[int, Message],
    chains: Sequence[Sequence[int]],
    piece: Callable[[int, int], tuple[int, int] | None],
    ask: Callable[[Mapping[int, Message]], Iterable[Message]],
    judge: Callable[[Mapping[int, Message], Iterable[Message]], Judged],
    fewest: int,
) -> Judged:
    """Train all chains, wave by wave.

    Args:
        requests: What each client would be asked if all began alike.
        chains: From :func:`chains_of`.
        piece: The piece of a schedule for a place in a chain of so many links (:meth:`.program.Program.piece`).
        ask: Gives the clients' replies to requests, which it takes by client.
        judge: Gives the good replies to requests and the reasons for all others, by client.
        fewest: Good replies with which the round goes on; once they cannot be reached any more, nobody is asked in vain.

    Returns:
        The good replies, each a trained update of its own client, and why clients were left out; both by client, ascending.
    """
    good: dict[int, Message] = {}
    dropped: dict[int, str] = {}
    latest: list[Message | None] = [None] * len(chains)
    left = sum(map(len, chains))
    for place in range(max(map(len, chains), default=0)):
        if len(good) + left < fewest:
            break
        going = [number for number, chain in enumerate(chains) if place < len(chain)]
        wave = {}
        for number in going:
            client = chains[number][place]
            wave[client] = handed_on(requests[client], latest[number], piece(place, len(chains[number])))
        found, reasons = judge(wave, ask(dict(sorted(wave.items()))))
        good |= found
        dropped |= reasons
        left -= len(wave)
        for number in going:
            latest[number] = found.get(chains[number][place], latest[number])
    # who has been judged good is not taken back for a message of somebody else's that came later in its name
    return dict(sorted(good.items())), {client: why for client, why in sorted(dropped.items()) if client not in good}


def handed_on(request: Message, before: Message | None, link: tuple[int, int] | None = None) -> Message:
    """A request that begins with what another client has returned.

    Args:
        request: The request as it is for a chain's first link, which is left alone.
        before: The last good reply of the chain; None: there is none yet.
        link: Which piece of how many of a learning rate's schedule the client trains with, where it has none of its own.
    """
    if before is None and link is None:
        return request
    content = RecordDict(dict(request.content))
    if before is not None:
        for name in weight_names(request):
            # plain arrays: other machines have not the file that a kept reply is read from
            trained = {key: Array(numbers_of(array)) for key, array in arrays_of(before, name).items()}
            content[name] = record_of({**arrays_of(request, name), **trained})
    if link is not None:
        content[CONFIG] = dataclasses.replace(config_of(request), link=link).to_record()
    return Message(content, dst_node_id=request.metadata.dst_node_id, message_type=request.metadata.message_type)


def of_chain(links: Mapping[int, Message], turn: Callable[[int], tuple[int, int]]) -> dict[int, Message]:
    """The update of a chain, by its last client: that one's weights, with the examples of all links.

    Args:
        links: The good updates of the clients of one subspace.
        turn: What they are sorted by.
    """
    last = max(links, key=turn)
    content = RecordDict(dict(links[last].content))
    content[METRICS] = MetricRecord({**metrics_of(links[last]), NUM_EXAMPLES: sum(map(num_examples, links.values()))})
    request = Message(RecordDict(), dst_node_id=last, message_type=links[last].metadata.message_type)
    return {last: Message(content, reply_to=request)}
