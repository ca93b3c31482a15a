"""Names of the files in a state folder, and in an output folder."""

MANIFEST = "fcit_manifest.json"
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
    return name in (MANIFEST, TOKENS, SHARED, BASE_CHANGE, RULES, METHOD_STATE) or name.startswith("subspaces/")


def subspace_folder(k: int) -> str:
    """Where a state folder has its subspace k, as a PEFT folder."""
    return f"subspaces/{k}"
