"""The secret of a run: its own for updates, that of the earlier run for tokens, and never another one than it began with."""

import json
import re
import shutil

import pytest
from toy import Toy, start

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.messages import ARRAYS
from fcit_plugin.federation.noise import SecretNoise, SimulatedNoise
from fcit_plugin.federation.run_secret import begin, check_first_release, go_on, noise_of_site, own_noise, record_of_site
from fcit_plugin.state.secret_files import secret_file


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(tmp_path / "secrets"))
    return tmp_path / "state"


def keys(secret):
    return Toy(fcit_dp_clipping_norm=1.0, fcit_dp_noise_multiplier=1.0, fcit_dp_secret=secret).program.args


AUTO, NUMBER, SEED = (keys(secret) for secret in ("auto", 12345, None))
ALL = {"file": AUTO, "number": NUMBER, "seed": SEED}


def file_of(record):
    return secret_file(f"noise-{record['run']}/secret")


def test_two_runs_of_one_recipe_have_ids_and_secrets_of_their_own():
    (one, first), (other, second) = begin(AUTO, 42), begin(AUTO, 42)
    assert one["run"] != other["run"] and len({first.updates, first.tokens, second.updates, second.tokens}) == 4
    assert all(len(half) == 32 for half in (first.updates, first.tokens))
    for record, noise in ((one, first), (other, second)):
        assert file_of(record).read_bytes() == noise.updates + noise.tokens
        assert file_of(record).stat().st_mode & 0o777 == 0o600
        assert not any(half.hex() in json.dumps(record) for half in (noise.updates, noise.tokens))


def test_a_run_that_goes_on_has_what_it_began_with(folder):
    record, noise = begin(AUTO, 42)
    assert go_on(AUTO, 42, record, folder) == (record, noise)
    assert go_on(AUTO, 7, record, folder) == (record, noise), "no part of it is the seed"


def test_a_run_behind_another_one_has_its_tokens_noise_and_its_own_for_updates(folder):
    record, noise = begin(AUTO, 42)
    runs = [begin(AUTO, 42, record, folder) for _ in range(2)]
    assert len({record["run"], *(found["run"] for found, _ in runs)}) == 3
    assert len({noise.updates, *(behind.updates for _, behind in runs)}) == 3
    assert {behind.tokens for _, behind in runs} == {noise.tokens}


@pytest.mark.parametrize("before", ALL)
@pytest.mark.parametrize("now", ALL)
def test_noise_that_would_come_from_elsewhere_is_refused(folder, before, now):
    record, _ = begin(ALL[before], 42)
    for change in (go_on, lambda args, seed, record, folder: begin(args, seed, record, folder)):
        if before == now:
            change(ALL[now], 42, record, folder)
            continue
        with pytest.raises(FcitError, match=r"The noise of the run in .*/state was drawn from .* and would now be drawn from"):
            change(ALL[now], 42, record, folder)


def test_a_commit_that_says_nothing_about_its_noise_had_none_from_a_secret(folder):
    assert go_on(SEED, 42, None, folder) == (None, SimulatedNoise(42))
    for args in (AUTO, NUMBER):
        with pytest.raises(FcitError, match="drawn from the recipe's seed"):
            go_on(args, 42, None, folder)


@pytest.mark.parametrize("change", [go_on, lambda args, seed, record, folder: begin(args, seed, record, folder)])
def test_a_missing_secret_and_one_that_others_can_read_end_it_in_a_sentence(folder, change):
    record, _ = begin(AUTO, 42)
    file_of(record).chmod(0o644)
    with pytest.raises(FcitError, match=f"{re.escape(str(file_of(record)))} has mode 644"):
        change(AUTO, 42, record, folder)
    file_of(record).unlink()
    with pytest.raises(
        FcitError, match=rf"{re.escape(str(file_of(record)))} cannot be read .*; the noise of the run in .*copy"
    ):
        change(AUTO, 42, record, folder)
    assert not file_of(record).exists(), "none is drawn in its place"


def test_a_folder_that_cannot_be_written_is_named_with_the_variable(tmp_path):
    (tmp_path / "secrets").write_text("in the way")
    with pytest.raises(FcitError, match=r"secrets/noise-\w+/secret cannot be written \(.*FCIT_SECRETS_DIR"):
        begin(AUTO, 42)


def test_a_recipe_without_noise_has_none_and_keeps_nothing(folder):
    plain = Toy(fcit_dp_clipping_norm=1.0).program.args
    assert begin(plain, 42) == go_on(plain, 42, None, folder) == (None, None)
    assert not secret_file("").exists()


def test_a_number_and_the_seed_need_no_file():
    assert begin(NUMBER, 42)[1] == SecretNoise.of_number("12345")
    assert begin(SEED, 42)[1] == SimulatedNoise(42)
    assert not secret_file("").exists()


def test_auto_never_turns_into_simulated_noise():
    """Where nobody has read the secret there is no noise to be had, not other noise."""
    keys = {"fcit_dp_clipping_norm": 1.0, "fcit_dp_noise_multiplier": 1.0, "fcit_dp_secret": "auto"}
    with pytest.raises(AssertionError):
        Toy(**keys).round()


def test_a_site_draws_its_own_secret_once_and_needs_it_ever_after(folder):
    record, server = begin(NUMBER, 42)
    noise = noise_of_site(AUTO, 42, record, folder, took_part=False)
    assert noise.tokens not in (server.tokens, noise.updates)
    for took_part in (False, True):
        assert noise_of_site(AUTO, 42, record, folder, took_part) == noise
    file_of(record).unlink()
    with pytest.raises(FcitError, match=r"secret cannot be read .*copy it from the machine that has it"):
        noise_of_site(AUTO, 42, record, folder, took_part=True)
    with pytest.raises(FcitError, match=r"which .*/state does not name"):
        noise_of_site(AUTO, 42, None, folder, took_part=False)
    assert noise_of_site(SEED, 42, None, folder, took_part=False) == SimulatedNoise(42)


@pytest.mark.parametrize("purpose", ["", " updates"])
def test_a_sites_folder_has_its_noise_wherever_it_is_moved_or_copied_to(purpose, folder):
    """Tokens that were sent with one noise, and again with another, tell more than was accounted for."""

    def noise_in(folder, run="run"):
        with record_of_site(folder, run, purpose) as (record, took_part):
            return own_noise(record, folder, took_part)

    noise, other = noise_in(folder), noise_in(folder, "another run")
    assert other != noise == noise_in(folder)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert (noise_in(moved), noise_in(moved, "another run")) == (noise, other)
    assert noise_in(folder.with_name("a site of its own")) != noise
    shutil.rmtree(secret_file(""))
    with pytest.raises(FcitError, match="copy it from the machine that has it"):
        noise_in(moved)


def test_a_sites_secret_that_could_not_be_kept_is_not_missed_later(folder):
    with pytest.raises(OSError, match="full"), record_of_site(folder, "run"):
        raise OSError("full")
    with record_of_site(folder, "run") as (_, took_part):
        assert not took_part


def replies_of():
    """The replies of a toy round."""
    found = []
    toy = Toy(on_reply=lambda request, reply: found.append(reply) if ARRAYS in reply.content else None)
    toy.round(start())
    return found


def test_the_noise_of_a_round_goes_on_one_set_of_updates_only():
    record, _ = begin(AUTO, 42)
    replies = replies_of()
    check_first_release(record, 0, 0, replies)
    check_first_release(record, 0, 0, reversed(replies))
    check_first_release(record, 0, 1, replies[:3])
    for others in (replies[1:], replies[:-1], []):
        with pytest.raises(FcitError, match=r"Stage 0, round 0 of this run was aggregated before, from other updates"):
            check_first_release(record, 0, 0, others)
    check_first_release(begin(AUTO, 42)[0], 0, 0, replies[1:])
    check_first_release(begin(NUMBER, 42)[0], 0, 0, replies[1:])
