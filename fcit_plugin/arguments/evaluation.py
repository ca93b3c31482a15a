"""Keys of evaluation and output."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import check_at_least, option

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class EvaluationArguments:
    """What is measured and kept of a run."""

    fcit_eval_every: str = option(
        "stage",
        "When to evaluate the seen datasets: after every stage or round, after the last stage alone (last), or never.",
        choices=["stage", "round", "last", "never"],
    )
    fcit_eval_samples: int | None = option(None, "Evaluate on the first n test records of each dataset (default: all).")
    fcit_eval_restricted: str = option(
        "true",
        "Also score with answers restricted to the dataset's own label set, where it has one: true, last (after the last "
        "stage alone) or false.",
        choices=["true", "last", "false"],
    )
    fcit_eval_likelihood: bool = option(
        True, "Also measure how likely the right answers are: their mean negative log-likelihood, teacher forced."
    )
    fcit_caption_metric: str = option(
        "rouge_l",
        "Score of the datasets whose metric is caption: rouge_l, coco (the paper's: mean of BLEU-1..4, METEOR, ROUGE-L "
        "and CIDEr; needs Java and the extra [captions]), or a registered one.",
    )
    fcit_zero_shot: bool = option(True, "Evaluate the untuned model first.")
    fcit_save_predictions: int = option(
        100,
        "Of how many test records of each dataset the answers are kept, in output_dir/predictions/stage-<t>.jsonl after each "
        "stage that is evaluated; 0 for none.",
    )
    fcit_keep_client_updates: bool = option(False, "Keep every client's update as an update folder in output_dir/updates.")


def parse_evaluation(args: "FcitArguments") -> None:
    """Turn a truth value into the word for it."""
    if isinstance(args.fcit_eval_restricted, bool):
        args.fcit_eval_restricted = str(args.fcit_eval_restricted).lower()


def check_evaluation(args: "FcitArguments") -> None:
    """Refuse values that cannot work, alone or together."""
    check_at_least(args, 1, "fcit_eval_samples")
    check_at_least(args, 0, "fcit_save_predictions")
