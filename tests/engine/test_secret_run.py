"""Runs whose noise is drawn from a secret: what they leave tells nothing of it, and without it they do not go on."""

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import report_of, run_recipe, weight_bytes
from safetensors.numpy import load_file
from test_folders import Carrier

from fcit_plugin.federation.noise import SecretNoise, SimulatedNoise
from fcit_plugin.scenario.sampling import sample_clients
from fcit_plugin.scenario.streams import Stream

pytest.importorskip("dp_accounting")

CLIPPING, Z = 0.05, 40.0
WEIGHTS = "subspaces/0/adapter_model.safetensors"


@pytest.fixture(autouse=True)
def secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(tmp_path / "secrets"))
    return tmp_path / "secrets"


@pytest.fixture
def recipe(text_recipe):
    """A run of one stage and two rounds, with clipping and noise on updates."""

    def make(output="out", **changes):
        keys = {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_eval_every": "never", "fcit_dp_clipping_norm": CLIPPING}
        return text_recipe(output, **{**keys, "fcit_dp_noise_multiplier": Z, "save_total_limit": 9, **changes})

    return make


def secret_of(secrets: Path) -> Path:
    (found,) = secrets.glob("noise-*/secret")
    return found


def traces(secret: bytes) -> list[bytes]:
    """The forms in which a secret could stand in a file."""
    halves = [secret, secret[: len(secret) // 2], secret[len(secret) // 2 :]]
    forms = [[part, part.hex().encode(), base64.b64encode(part).rstrip(b"=")[:-1]] for part in halves]
    return [form for of_part in forms for form in of_part]


def test_a_secret_is_in_nothing_that_a_run_leaves_prints_or_logs(recipe, secrets, logged, capfd):
    out = run_recipe(recipe(fcit_dp_secret="auto", fcit_identity_noise=0.01, fcit_keep_client_updates=True))
    files = [path for path in out.rglob("*") if path.is_file()]
    assert (
        len(files) > 30 and any("checkpoints" in str(path) for path in files) and any("updates" in str(path) for path in files)
    )
    printed = capfd.readouterr()
    held = b"".join([*(path.read_bytes() for path in files), (printed.out + printed.err + logged.text).encode()])
    assert [form for form in traces(secret_of(secrets).read_bytes()) if form in held] == []
    report = report_of(out)
    assert report["privacy"]["noise"] == "secret" and report["privacy"]["statement"].startswith("Privacy spent: epsilon ")
    for text in (printed.out, (out / "README.md").read_text()):
        assert report["privacy"]["statement"] in text
    assert "fcit_dp_secret" not in (out / "fcit_report.json").read_text()


def taken_off(folder: Path, noise) -> np.ndarray:
    """What an attacker makes of a folder that was given away: the weights without the noise that would be that of ``noise``."""
    report, weights = json.loads((folder / "fcit_report.json").read_text()), load_file(folder / WEIGHTS)
    given, found = report["arguments"], []
    rows = [row for row in report["assignments"] if row["subspace"] == 0]
    drawn = noise.at(Stream.UPDATE_NOISE, rows[0]["stage"], rows[0]["round"], 0, 0)
    for key in sorted(weights):
        zero = np.zeros(weights[key].shape)
        deviation = given["fcit_dp_noise_multiplier"] * given["fcit_dp_clipping_norm"]
        found.append((weights[key] - drawn.mean(key, [zero] * len(rows), zero, deviation)).ravel())
    return np.concatenate(found)


def test_with_the_published_folder_alone_noise_can_be_taken_off_only_if_it_is_simulated(recipe):
    one = {"fcit_num_rounds": 1}
    clean = load_file(run_recipe(recipe("clean", **one, fcit_dp_noise_multiplier=None)) / WEIGHTS)
    mean = np.concatenate([clean[key].ravel() for key in sorted(clean)])
    simulated, secret = (run_recipe(recipe(name, **one, fcit_dp_secret=given)) for name, given in (("a", None), ("b", "auto")))
    noise_in = {
        folder: np.linalg.norm(np.concatenate([load_file(folder / WEIGHTS)[key].ravel() for key in sorted(clean)]) - mean)
        for folder in (simulated, secret)
    }
    assert min(noise_in.values()) > 30
    seed = report_of(simulated)["seed"]
    assert np.linalg.norm(taken_off(simulated, SimulatedNoise(seed)) - mean) < 1e-4
    known = json.loads((secret / "progress.json").read_text())["noise"]
    assert known["source"] == "file"
    run_id = bytes.fromhex(known["run"])
    guesses = [SimulatedNoise(seed), SecretNoise.of_number(str(seed)), SecretNoise(run_id, run_id)]
    guesses += [SecretNoise(text, text) for text in (known["run"].encode(), b"auto", b"", bytes(32))]
    for guess in guesses:
        assert np.linalg.norm(taken_off(secret, guess) - mean) > noise_in[secret]


def test_a_run_goes_on_to_the_same_bits_and_not_without_its_secret(recipe, secrets, tmp_path):
    keys = recipe(fcit_dp_secret="auto", fcit_identity_noise=0.01)
    whole = run_recipe(keys)
    before, path = weight_bytes(whole), secret_of(secrets)
    commits = sorted((whole / "checkpoints").iterdir())
    again = {**keys, "output_dir": str(tmp_path / "again"), "resume_from_checkpoint": str(commits[1])}
    resumed = weight_bytes(run_recipe(again))
    assert {name: data for name, data in before.items() if name in resumed and "checkpoints" not in name} == {
        name: data for name, data in resumed.items() if "checkpoints" not in name
    }
    assert secret_of(secrets) == path
    again["output_dir"] = str(tmp_path / "third")
    with pytest.raises(
        ValueError, match=r"noise of the run in .* drawn from a secret in a file .*now be drawn from the recipe"
    ):
        run_recipe({key: value for key, value in again.items() if key != "fcit_dp_secret"})
    path.chmod(0o640)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} has mode 640"):
        run_recipe(again)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read .*copy it from the machine that has it"):
        run_recipe(again)


def test_a_run_that_goes_back_puts_no_noise_of_a_round_on_other_updates(recipe, secrets, tmp_path):
    keys = recipe(fcit_dp_secret="auto")
    whole = run_recipe(keys)
    first = sorted((whole / "checkpoints").iterdir())[0]
    kept = secret_of(secrets).parent / "stage0_round1"
    assert kept.with_name("stage0_round0").is_file()
    kept.write_bytes(bytes(32))  # as if clients had answered then that do not answer now
    again = {**keys, "output_dir": str(tmp_path / "again"), "resume_from_checkpoint": str(first)}
    with pytest.raises(ValueError, match=rf"Stage 0, round 1 of this run was aggregated before, .* take {kept} away"):
        run_recipe(again)
    kept.unlink()
    again["output_dir"] = str(tmp_path / "third")
    assert weight_bytes(run_recipe(again))[WEIGHTS] == weight_bytes(whole)[WEIGHTS]


# by folders


def carried(recipe, root, **changes):
    keys = recipe(fcit_identity_noise=0.01, **changes)
    return Carrier(run_recipe, {key: value for key, value in keys.items() if key != "save_total_limit"}, root)


def test_folders_give_the_noise_and_the_epsilon_of_the_loop(recipe, secrets, tmp_path, logged, capfd):
    secret = 2**127 + 12345678901234567
    whole = run_recipe(recipe("whole", fcit_identity_noise=0.01, fcit_dp_secret=secret))
    carrier = carried(recipe, tmp_path, fcit_dp_secret=secret)
    printed = capfd.readouterr()
    for number in range(2):
        carrier.round(number, 0, number)
        statement = capfd.readouterr().out
    assert weight_bytes(carrier.state)[WEIGHTS] == weight_bytes(whole)[WEIGHTS]
    spent, kept = (json.loads((folder / "progress.json").read_text()) for folder in (whole, carrier.state))
    assert kept["assignments"] == spent["assignments"]
    assert sorted(kept["asked"], key=str) == sorted(spent["asked"], key=str)
    assert report_of(whole)["privacy"]["statement"] in statement
    assert "over all rounds so far; its part for identity tokens holds for sites that set `fcit_dp_secret`" in statement
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    held = b"".join([*files, (printed.out + printed.err + statement + logged.text).encode()])
    forms = [str(secret).encode(), f"{secret:x}".encode(), secret.to_bytes(16, "big"), secret.to_bytes(16, "little")]
    assert [form for form in forms if form in held] == [], "nor is the number in anything"
    assert not list(secrets.glob("noise-*"))


def test_a_server_and_its_sites_by_folders_keep_secrets_and_hand_none_on(recipe, secrets, tmp_path, monkeypatch):
    carrier = carried(recipe, tmp_path, fcit_dp_secret="auto")
    path = secret_of(secrets)
    first = carrier.state
    clients = sample_clients(3, 2, seed=42, stage=0, round=0)
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(tmp_path / "site"))
    updates = [carrier.update(client, f"update{client}") for client in clients]
    site = secret_of(tmp_path / "site")
    assert site.parent.name == path.parent.name and site.read_bytes() != path.read_bytes(), "one run, a secret for each"
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(secrets))
    given = {"fcit_state_dir": str(first), "fcit_update_dirs": ",".join(map(str, updates))}
    carrier.state = carrier.stage("fcit_aggregate", "state1", **given)
    assert weight_bytes(carrier.stage("fcit_aggregate", "same", **given)) == weight_bytes(carrier.state)
    with pytest.raises(ValueError, match="Stage 0, round 0 of this run was aggregated before, from other updates"):
        carrier.stage("fcit_aggregate", "other", **{**given, "fcit_update_dirs": str(updates[0])})
    files = [path for folder in (first, carrier.state, *updates) for path in folder.rglob("*") if path.is_file()]
    held = b"".join(path.read_bytes() for path in files)
    assert [form for secret in (path, site) for form in traces(secret.read_bytes()) if form in held] == []

    again = next(client for client in clients if client in sample_clients(3, 2, seed=42, stage=0, round=1))
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(tmp_path / "site"))
    tokens = [
        load_file(folder / "fcit_update.safetensors")["token/mean"].tobytes()
        for folder in (updates[clients.index(again)], carrier.update(again, "second"))
    ]
    assert tokens[0] == tokens[1], "a client has one noisy token for a task, ever"
    site.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=rf"{re.escape(str(site))} cannot be read .*copy it"):
        carrier.update(again, "third")
    shutil.move(path, tmp_path / "moved too")
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(secrets))
    second = {"fcit_state_dir": str(carrier.state), "fcit_update_dirs": str(tmp_path / "second")}
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read .*copy it"):
        carrier.stage("fcit_aggregate", "state2", **second)
    for changes, sentence in (
        ({"fcit_dp_secret": None}, "would now be drawn from the recipe's seed"),
        ({"fcit_dp_noise_multiplier": 2.0}, r"cannot be added up: `fcit_dp_noise_multiplier` was 40.0 and is 2.0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            carrier.stage("fcit_aggregate", "state2", **second, **changes)
    (carrier.state / "progress.json").unlink()
    with pytest.raises(ValueError, match=r"does not say who took part in its rounds"):
        carrier.stage("fcit_aggregate", "state2", **second)


@pytest.mark.slow
def test_the_noise_is_the_same_with_two_processes_and_with_one_that_goes_on_elsewhere(recipe, secrets, tmp_path, process):
    keys = recipe(fcit_dp_secret="auto", fcit_identity_noise=0.01, per_device_train_batch_size=1, gradient_accumulation_steps=1)
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(keys))
    env = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2", "FCIT_SECRETS_DIR": str(secrets)}
    process(["llamafactory-cli", "train", str(path)], env, timeout=400)
    assert secret_of(secrets).stat().st_mode & 0o777 == 0o600
    two, first = Path(keys["output_dir"]), sorted((Path(keys["output_dir"]) / "checkpoints").iterdir())[0]
    again = {"output_dir": str(tmp_path / "one"), "resume_from_checkpoint": str(first), "per_device_train_batch_size": 2}
    one = run_recipe({**keys, **again, "ddp_find_unused_parameters": False})  # as LLaMA-Factory sets it for two
    weights = [load_file(folder / WEIGHTS) for folder in (two, one)]
    for key, value in weights[0].items():
        assert value.std() > 0.5, "noise, nearly all of it"
        np.testing.assert_allclose(value, weights[1][key], atol=1e-3)
