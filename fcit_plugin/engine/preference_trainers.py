"""The trainers of ``fcit_local_stage`` dpo and kto, apart from the others: they import trl, which takes seconds."""

from llamafactory.train.dpo.trainer import CustomDPOTrainer
from llamafactory.train.kto.trainer import CustomKTOTrainer

from .trainer_mixins import NoReferenceModelMixin, ProjectorLearningRateMixin, ScheduleOfChainMixin


class ClientDpoTrainer(ScheduleOfChainMixin, ProjectorLearningRateMixin, NoReferenceModelMixin, CustomDPOTrainer):
    """Trains a client on pairs of a better and a worse answer."""


class ClientKtoTrainer(ScheduleOfChainMixin, ProjectorLearningRateMixin, NoReferenceModelMixin, CustomKTOTrainer):
    """Trains a client on answers that are called good or bad."""
