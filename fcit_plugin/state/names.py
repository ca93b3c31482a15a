"""Names of the files in a state folder, in an output folder, and of what is kept by round."""

import re

MANIFEST = "fcit_manifest.json"
SUBSPACES = "subspaces"
#: Folder of the updates that a run keeps, and what they are called.
UPDATES, UPDATE_NAMES = "updates", r"stage\d+_round\d+_client\d+"
TOKENS = "identity_tokens.safetensors"
SHARED = "shared.safetensors"
BASE_CHANGE = "base_change.safetensors"
RULES = "server_rules.safetensors"
METHOD_STATE = "method_state.safetensors"
#: The recipe as it was typed, without its secrets.
TYPED_YAML = "fcit_recipe.yaml"
#: Of the folder of each subspace, as PEFT calls them.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: Rises when the folder's form changes. Only this one is read.
FORMAT_VERSION = 6


def belongs_to_state(name: str) -> bool:
    """Whether a file of a commit is also a part of what the run leaves at its end."""
    return name in (MANIFEST, TOKENS, SHARED, BASE_CHANGE, RULES, METHOD_STATE) or name.startswith(f"{SUBSPACES}/")


def subspace_folder(k: int) -> str:
    """Where a state folder has its subspace k, as a PEFT folder."""
    return f"{SUBSPACES}/{k}"


def update_name(stage: int, round: int, client: int) -> str:
    """What an update that is kept is called."""
    return f"stage{stage}_round{round}_client{client}"


def round_name(stage: int, round: int) -> str:
    """What a round's file or folder is called, where what is kept of rounds lies in one folder."""
    return f"stage-{stage}_round-{round}"


def round_in(name: str) -> tuple[int, int] | None:
    """Stage and round of a name by :func:`round_name`, None of any other."""
    found = re.fullmatch(r"stage-(\d{1,18})_round-(\d{1,18})", name)
    return (int(found[1]), int(found[2])) if found else None
