"""``fcit-cli doctor``: one block that says what is there, and names what is wrong."""

from importlib.metadata import requires

import pytest

from fcit_plugin import autoload
from fcit_plugin.commands import doctor


def told(capsys):
    """What it prints, and its exit code."""
    code = doctor.DOCTOR.run(None)
    return capsys.readouterr().out, code


def test_a_sound_installation_has_nothing_wrong(capsys):
    text, code = told(capsys)
    assert code == 0 and "nothing that is wrong" in text
    assert text.startswith("```\n") and text.endswith("```\n")
    for title in ("system", "packages", "plugins", "seams", "devices", "programs", "disk", "environment", "found"):
        assert f"\n{title} " in text
    assert "java" in text and "GiB free" in text and "llamafactory 0." in text


def test_a_version_out_of_bounds_and_a_seam_that_does_not_fit_are_named(capsys, monkeypatch):
    (bound,) = [line for line in requires("fcit-plugin") if line.startswith("peft")]
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "99.0" if name == "peft" else version(name))
    monkeypatch.setattr(autoload, "FAILED", {"llamafactory.data.loader": "AttributeError: it has moved"})
    text, code = told(capsys)
    assert code == 1
    found = text.partition("\nfound ")[2]
    assert f"peft is 99.0, and the plugin needs {bound[4:]}".partition("<")[0] in found or "peft is 99.0" in found
    assert "llamafactory.data.loader does not fit: AttributeError: it has moved" in found


@pytest.mark.parametrize("name", ["FCIT_SECRETS_DIR", "HF_TOKEN", "WANDB_API_KEY"])
def test_secrets_are_not_told(name, capsys, monkeypatch):
    monkeypatch.setenv(name, "very-secret")
    assert "very-secret" not in told(capsys)[0]
