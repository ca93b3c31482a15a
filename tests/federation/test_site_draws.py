"""Who is asked in which round, where sites take part in some tasks alone, leave, and join."""

import itertools

import pytest
from toy import Toy

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.site_lists import clients_by_stage
from fcit_plugin.scenario.sampling import seated
from fcit_plugin.state.progress import Progress

KEYS = {"fcit_num_clients": 6, "fcit_clients_per_round": 3, "fcit_num_rounds": 4}


def draws(program):
    return {
        (stage, round): {client: config.task for client, config in program.work(stage, round).items()}
        for stage, round in itertools.product(range(program.num_stages), range(4))
    }


def program_of(tasks_of=None, clients_of=None, **changes):
    program = Toy(**KEYS | changes).program
    program.tasks_of, program.clients_of = tasks_of, clients_of or {}
    return program


def test_sites_that_take_part_in_all_are_drawn_as_clients_are():
    every = range(len(program_of().scenario.tasks))
    assert draws(program_of([every] * 6)) == draws(program_of())


def test_a_site_is_asked_for_nothing_but_its_tasks_and_its_place_is_taken_by_another():
    every = set(range(len(program_of().scenario.tasks)))
    tasks_of = [every, every, every, every, {1}, set()]  # the last one has been removed
    found = draws(program_of(tasks_of))
    for work in found.values():
        assert len(work) == 3
        assert all(task in tasks_of[client] for client, task in work.items())
    plain = draws(program_of())
    for where, work in plain.items():  # who can keep the place has it
        assert all(found[where].get(client) == task for client, task in work.items() if task in tasks_of[client])


def test_places_that_nobody_can_take_stay_empty():
    assert seated([2, 0, 1], [7, 8, 7], [{7}, {9}, {7}]) == ((2, 0), (7, 7))
    assert seated([0], [1], [set()]) == ((), ())


def test_stages_begun_before_sites_joined_are_drawn_as_they_were():
    small, grown = draws(program_of(fcit_num_clients=4)), draws(program_of(clients_of={0: 4}))
    for where, work in grown.items():
        assert work == (small[where] if where[0] == 0 else draws(program_of())[where])
    assert program_of().run_id != program_of(fcit_num_clients=5).run_id  # but for runs over a network:
    network = {"fcit_site_key": "site.key"}
    assert program_of(**network).run_id == program_of(fcit_num_clients=5, **network).run_id


def test_the_list_of_sites_only_grows():
    progress = Progress(sites=["north", "south"])
    progress.list_sites(0)
    progress.list_sites(0)
    assert clients_by_stage(progress.site_lists, ["north", "south", "west"]) == {0: 2}
    progress.sites = ["north", "south", "west"]
    progress.list_sites(1)
    assert Progress.from_dict(progress.to_dict()).site_lists == [["north", "south"], ["north", "south", "west"]]
    assert clients_by_stage(progress.site_lists, progress.sites) == {0: 2, 1: 3}
    for names, said in ((["south", "north"], "Site 0 was north"), (["north", "south"], "Site 2 was west"), ([], "missing")):
        with pytest.raises(FcitError, match=said):
            clients_by_stage(progress.site_lists, names)
