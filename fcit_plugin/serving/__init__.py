"""A finished run on its base model: loaded, routed, merged, exported, joined with another."""
