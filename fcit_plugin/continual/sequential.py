"""Sequential tuning: nothing is done against forgetting."""

from .method import ContinualMethod


class Sequential(ContinualMethod[None]):
    """All clients of all stages tune one LoRA, one stage after the other: what every method is measured against."""
