"""The trainer of ``fcit_local_stage: sft``."""

from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer

from .trainer_mixins import BatchTermsMixin, ProjectorLearningRateMixin, ScheduleOfChainMixin


class ClientSupervisedTrainer(ScheduleOfChainMixin, ProjectorLearningRateMixin, BatchTermsMixin, CustomSeq2SeqTrainer):
    """Trains a client on answers."""
