"""The keys of a method in a recipe, with their help, as its declaration has them."""

from ..arguments.joined import part_keys
from ..errors import FcitError, nearest
from ..plugins import registry
from .draft import Draft


def put_method(draft: Draft, name: str) -> None:
    """Choose a method, and put its own keys into a recipe at their defaults.

    Args:
        draft: The recipe; keys that belong to other methods are taken out.
        name: The method.

    Raises:
        FcitError: There is no such method.
    """
    methods, keys = registry("methods"), part_keys()
    if name not in methods:
        raise FcitError(f"There is no method {name!r}: {nearest(name, methods)}")
    for other in [own for own in draft.keys if own in keys and keys[own].kind == "methods" and name not in keys[own].owners]:
        draft.keys.pop(other)
    draft.put("fcit_method", name, "fcit-cli plugins lists all methods")
    for key in keys.values():
        if key.kind != "methods" or name not in key.owners or key.name in draft.keys:
            continue
        if key.owners[name] is None:
            draft.unset[key.name] = _in_a_line(key.help)
        else:
            draft.put(key.name, key.owners[name], _in_a_line(key.help))


def _in_a_line(help: str) -> str:
    return " ".join(help.split())
