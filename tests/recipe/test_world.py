"""Recipes of processes that have left torchrun's world."""

import pytest

from fcit_plugin.recipe import world
from fcit_plugin.recipe.world import World, without_world


@pytest.mark.parametrize("deepspeed", [None, "ds.json"])
@pytest.mark.parametrize("left", [None, World(0, 2, 0, 2, "localhost", 1, True)])
def test_a_process_alone_is_not_told_how_to_talk_to_others(left, deepspeed, monkeypatch):
    """Accelerate would look for a world with this backend, and there is none; what it is made for has no effect."""
    monkeypatch.setattr(world, "_left", left)
    keys = {"ddp_backend": "gloo", "ddp_timeout": 9, "deepspeed": deepspeed}
    expected = {"ddp_timeout": 9, "deepspeed": None} if left and not deepspeed else keys
    assert without_world(keys) == expected
