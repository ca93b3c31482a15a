"""What processes that train whole clients send each other, and what is heard of one that ends."""

import errno
import json
import multiprocessing
import os
import socket
import struct
import time

import pytest
import torch.distributed as dist

from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.engine import pool as pool_module
from fcit_plugin.engine.pool import Pool, ProcessGone
from fcit_plugin.recipe.world import World


def run_all(count, work, local_ranks=None, local_count=None, address="127.0.0.1", before=lambda rank, port: None):
    """What ``work`` gives in each of several processes that meet in a pool, by rank; ``before`` is what one does first."""
    port, fork = free_ports(1)[0], multiprocessing.get_context("fork")
    results = fork.Queue()

    def one(rank):
        before(rank, port)
        local = rank if local_ranks is None else local_ranks[rank]
        pool = Pool(World(rank, count, local, local_count or count, address, port, has_store=False))
        results.put((rank, work(pool)))
        results.close()
        results.join_thread()
        os._exit(0)

    processes = [fork.Process(target=one, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    try:
        found = dict(results.get(timeout=60) for _ in processes)
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            process.kill()
    return [found[rank] for rank in range(count)]


def test_every_process_has_what_all_have_by_rank():
    assert run_all(4, lambda pool: pool.gather(pool.rank * 10)) == [[0, 10, 20, 30]] * 4


def test_the_first_process_alone_computes():
    assert run_all(3, lambda pool: pool.compute_on_main(lambda: os.getpid()) is None) == [False, True, True]


def test_large_objects_and_many_small_ones_arrive_in_order():
    def work(pool):
        if pool.is_main:
            pool.send_all(b"x" * 5_000_000)
            heard: dict[int, list[int]] = {1: [], 2: []}
            for source, value in pool.received([1, 2]):
                heard[source].append(value)
                if sum(map(len, heard.values())) == 400:
                    return heard
        size = len(pool.receive(0))
        for number in range(200):
            pool.send(number, 0)
        return size

    heard, *sizes = run_all(3, work)
    assert sizes == [5_000_000] * 2
    assert heard == {1: list(range(200)), 2: list(range(200))}


def test_one_process_of_each_machine_goes_first():
    def work(pool):
        start = time.monotonic()
        with pool.one_first():
            entered = time.monotonic()
            if pool._local_rank == 0:
                time.sleep(0.3)
        return entered, time.monotonic(), start

    times = run_all(4, work, local_ranks=[0, 1, 0, 1])
    firsts, seconds = (times[0], times[2]), (times[1], times[3])
    assert max(left for _, left, _ in firsts) >= 0.3
    assert min(entered for entered, *_ in seconds) >= max(entered for entered, *_ in firsts) + 0.3


def test_a_process_that_is_gone_is_named_at_once_on_both_sides():
    def work(pool):
        if pool.rank == 1:
            os._exit(9) if pool.receive(0) == "die" else None
        if pool.is_main:
            pool.send("die", 1)
            start = time.monotonic()
            with pytest.raises(ProcessGone, match="Process 1 of this run has ended"):
                pool.receive(1)
            return time.monotonic() - start
        return 0.0

    port, fork = free_ports(1)[0], multiprocessing.get_context("fork")
    answers = fork.Queue()

    def one(rank):
        answers.put((rank, work(Pool(World(rank, 2, rank, 2, "127.0.0.1", port, has_store=False)))))

    processes = [fork.Process(target=one, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    assert answers.get(timeout=60)[1] < 5
    for process in processes:
        process.join(30)
    assert processes[1].exitcode == 9


def _ends(pool):
    """The second process sends half a message and is killed, as for too little memory."""
    if pool.rank == 1:
        os.write(pool._peers[0].fileno(), struct.pack("!i", 10**6) + b"half")
        os._exit(9)
    with pytest.raises(ProcessGone, match="Process 1 of this run has ended"):
        pool.receive(1)
    return "told"


def test_a_process_that_is_killed_in_the_midst_of_a_message_is_named():
    port, fork = free_ports(1)[0], multiprocessing.get_context("fork")
    answers = fork.Queue()

    def one(rank):
        answers.put(_ends(Pool(World(rank, 2, rank, 2, "127.0.0.1", port, has_store=False))))

    processes = [fork.Process(target=one, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    assert answers.get(timeout=60) == "told"
    for process in processes:
        process.join(30)


@pytest.mark.parametrize(
    "number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE, None]
)
def test_however_the_system_says_that_a_machine_is_gone(number):
    class Line:
        def fails(self, *given):
            raise OSError("got end of file during message") if number is None else OSError(number, os.strerror(number))

        recv_bytes = send_bytes = fails

    pool = object.__new__(Pool)
    pool._peers = {3: Line()}
    for ask in (lambda: pool.receive(3), lambda: pool.send("x", 3)):
        with pytest.raises(ProcessGone, match="Process 3 of this run has ended"):
            ask()


def test_strangers_who_knock_keep_nobody_from_meeting(monkeypatch):
    monkeypatch.setattr(pool_module, "_SHOWING", 1)
    silent = []  # for good

    def knock(rank, port):
        if rank == 0:
            return
        store = dist.PrefixStore("fcit", dist.TCPStore("127.0.0.1", port, is_master=False))
        host, at, _ = json.loads(store.get("meeting"))
        for said in (None, b"GET / HTTP/1.1\r\n\r\n", struct.pack("!i", 100) + b"#CHALLENGE#", struct.pack("!i", 2**31 - 1)):
            with socket.create_connection((host, at)) as line:
                if said is not None:
                    line.recv(1000)
                    line.sendall(said)
        silent.extend(socket.create_connection((host, at)) for _ in range(2))
        silent[1].sendall(b"\0\0")

    assert run_all(2, lambda pool: pool.gather(pool.rank), before=knock) == [[0, 1]] * 2


@pytest.mark.parametrize("address", ["::1", "localhost", "127.0.0.1"])
def test_machines_meet_by_either_kind_of_address(address, monkeypatch):
    monkeypatch.setattr(pool_module, "_SHOWING", 1)
    try:
        socket.create_server((address, 0), family=socket.getaddrinfo(address, 0)[0][0]).close()
    except OSError:
        pytest.skip(f"this machine has no {address}")

    def work(pool):
        with socket.fromfd(pool._peers[1 - pool.rank].fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
            family = line.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
        time.sleep(1.5 * pool.rank)  # longer than a stranger may say nothing
        return pool.gather(pool.rank), family

    found = run_all(2, work, local_ranks=[0, 0], local_count=1, address=address)  # each on a machine of its own
    assert [ranks for ranks, _ in found] == [[0, 1]] * 2
    assert address == "localhost" or {family for _, family in found} == {socket.AF_INET6 if ":" in address else socket.AF_INET}


def test_a_process_without_a_device_says_so_and_meets_nobody():
    with pytest.raises(ValueError, match="no device of its own"):
        Pool(World(1, 2, 1, 2, "127.0.0.1", 1, has_store=True, problem="Process 1 of this machine has no device of its own."))
