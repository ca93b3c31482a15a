"""A recipe as it was typed: nothing of it changes but secrets, which are hidden wherever they stand."""

import re
from dataclasses import fields

import pytest
import tiny
import yaml
from llamafactory.hparams import parser

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.errors import FcitError
from fcit_plugin.recipe.request import Request
from fcit_plugin.recipe.typed_recipe import HIDDEN, as_typed, check_typed, is_secret, keys_as_typed, without_secrets

SECRET = "s3cr3t"
#: Every key of theirs and ours that means to hand a secret over.
SECRETS = {
    *("hf_hub_token", "ms_hub_token", "om_hub_token", "hub_token", "push_to_hub_token", "fcit_dp_secret"),
    *("swanlab_api_key", "swanlab_lark_webhook_url", "swanlab_lark_secret", "api_key"),
}


def every_key():
    return {item.name for part in (*parser._TRAIN_ARGS, *parser._INFER_ARGS, FcitArguments.joined()) for item in fields(part)}


def test_of_every_key_it_is_known_whether_it_is_a_secret():
    keys = every_key()
    assert {key for key in keys if is_secret(key)} == SECRETS & keys
    suspected = {key for key in keys if re.search(r"secret|passw|webhook|token(?!s|i)|key", key)} - SECRETS
    assert suspected == SUSPECTED & keys, "a new key whose name may mean a secret: say in this test whether it is one"


#: Files that are named and never read, and what only sounds like a secret.
SUSPECTED = {"fcit_server_key", "fcit_site_key", "ignore_pad_token_for_loss"}


@pytest.mark.parametrize("key", sorted(SECRETS))
@pytest.mark.parametrize(
    "line",
    [
        "{key}: {value}", "{key}:    '{value}'  # mine", '"{key}": "{value}"', "{key}: |\n  {value}\n  {value}",
        "{key}:\n  {value}", "{key}: >-\n\n  {value}", "b: &x {value}\n{key}: *x", "{key}: &x {value}\nb: *x",
        "{key}: [{value}, {{a: {value}}}]",
        "? {key}\n: {value}", "{{{key}: {value}}}: c", "# {key}: {value}", "a: 1  #{key}={value}", "a: {{{key}: {value}}}",
        "a: [{{{key}: {value}}}, 1]", "{key}: !!str {value}", "{key}: &a {{b: &c {value}}}\nd: *c",
        "a: &a {{{key}: {value}}}\nb: *a", "b: &c {{d: {value}}}\n{key}: *c\nhub_token: *c",
    ],
)  # fmt: skip
def test_a_secret_is_hidden_however_it_is_written_and_the_rest_stays(key, line):
    first, last = "# first\nstage: fcit\nlearning_rate: 1.0e-3\n", "\nfcit_server_key: deploy/server.key\n"
    found = without_secrets(first + line.format(key=key, value=SECRET) + last)
    assert SECRET not in found and HIDDEN in found
    assert found.startswith(first) and found.endswith(last)


def test_without_a_secret_it_stays_as_it_is():
    text = "a: 1 # one\r\n\r\nb:   [x,  'y']\nmax_new_tokens: 5\nfcit_identity_encoder: auto\n# a token: is a word\n"
    assert without_secrets(text).replace(f"token: {HIDDEN}", "token: is a word") == text
    assert without_secrets("") == ""


def test_what_follows_on_the_command_line_follows_as_a_comment(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("stage: fcit\n# mine\n")
    assert as_typed([str(recipe)]) == recipe.read_text()
    found = as_typed([str(recipe), "fcit_beta=0.5", f"hub_token={SECRET}", "--dry-run", "a=b\nc"])
    assert found == (
        f"stage: fcit\n# mine\n\n# on the command line:\n#   fcit_beta=0.5\n#   hub_token={HIDDEN}\n#   --dry-run\n#   a=b c\n"
    )
    assert yaml.safe_load(found) == {"stage": "fcit"}


@pytest.mark.parametrize("argv", [[], ["--stage", "fcit"], ["there.is.none.yaml"], ["mine.json"]])
def test_without_a_recipe_there_is_none(argv):
    assert as_typed(argv) is None


@pytest.mark.parametrize("data", [b"a: [1\n", b"\xff\xfe\x00", b"a: " + b"[" * 1200])
def test_what_is_no_text_of_keys_is_left_to_whoever_reads_it(data, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_bytes(data)
    assert as_typed([str(recipe)]) is None


def test_it_travels_with_the_arguments_and_changes_none_of_them(text_model, text_data, tmp_path, monkeypatch):
    keys = tiny.recipe(text_model, text_data, tmp_path / "out")
    path = tiny.write_recipe(tmp_path / "mine.yaml", keys)
    monkeypatch.setattr("sys.argv", ["llamafactory-cli", str(path), "fcit_beta=0.5", f"hub_token={SECRET}"])
    typed = parser.get_train_args(parser.read_args())
    given = parser.get_train_args({**keys, "fcit_beta": 0.5, "hub_token": SECRET})
    requests = [Request.of(found[3]) for found in (typed, given)]
    behind = f"# on the command line:\n#   fcit_beta=0.5\n#   hub_token={HIDDEN}\n"
    assert requests[0].typed == f"{path.read_text().rstrip()}\n\n{behind}"
    assert (requests[1].typed, requests[0].given) == (None, requests[1].given)
    assert typed[2].hub_token == SECRET


def own(folder, text):
    """The recipe that a run has left in its output folder."""
    folder.mkdir()
    (folder / "fcit_recipe.yaml").write_text(f"stage: fcit\noutput_dir: {folder}\n{text}")
    return folder / "fcit_recipe.yaml"


def test_a_runs_own_recipe_has_what_stood_behind_it_and_is_typed_again_without(tmp_path):
    text = as_typed([str(own(tmp_path / "first", "a: 1\n").rename(tmp_path / "mine.yaml")), "a=2", "b.c=[1, 2]", "--dry-run"])
    path = own(tmp_path / "run", "")
    path.write_text(text)
    keys, words = keys_as_typed(path)
    assert (keys["a"], keys["b"], keys["--dry-run"]) == (2, {"c": [1, 2]}, None) and words == ["a=2", "b.c=[1, 2]", "--dry-run"]
    assert as_typed([str(path)]) == text.partition("\n# on the")[0] + "\n"
    assert as_typed([str(path), "a=3"]).count("# on the command line:") == 1
    assert check_typed([str(path), "a=2"], keys) == ["b.c=[1, 2]", "--dry-run"]
    other = tmp_path / "other.yaml"
    other.write_text(text)
    assert keys_as_typed(other)[0]["a"] == 1 and check_typed([str(other)], keys) == [], "a user's own comment is a comment"


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_that_a_run_has_left_out_is_asked_for(tmp_path, key):
    path = own(tmp_path / "run", f"{key}: {HIDDEN}\n")
    keys, _ = keys_as_typed(path)
    with pytest.raises(FcitError, match=f"`{key}` is .*put {key}=VALUE behind it"):
        check_typed([str(path)], keys)
    assert check_typed([str(path), f"{key}={SECRET}"], {**keys, key: SECRET}) == []


def test_a_secret_that_the_run_would_write_over_is_not_lost(tmp_path):
    path = own(tmp_path / "run", f"hub_token: {SECRET}\n")
    with pytest.raises(FcitError, match="take a copy of it under another name"):
        check_typed([str(path)], keys_as_typed(path)[0])
    assert check_typed([str(path)], {**keys_as_typed(path)[0], "output_dir": str(tmp_path / "elsewhere")}) == []
