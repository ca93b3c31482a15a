"""Keys of evaluation and output."""

from dataclasses import dataclass

from .option import check_at_least, option


@dataclass
class EvaluationArguments:
    """What is measured and kept of a run."""

    fcit_eval_every: str = option("stage", "When to evaluate the seen data sets.", choices=["stage", "round", "never"])
    fcit_eval_samples: int | None = option(None, "Evaluate on the first n test records of each data set (default: all).")
    fcit_eval_restricted: bool = option(
        True, "Also score with answers restricted to the data set's own label set, where it has one."
    )
    fcit_caption_metric: str = option(
        "rouge_l",
        "Score of the data sets whose metric is caption: rouge_l, coco (the paper's: mean of BLEU-1..4, METEOR, ROUGE-L "
        "and CIDEr; needs Java and the extra [captions]), or a registered one.",
    )
    fcit_zero_shot: bool = option(True, "Evaluate the untuned model first.")
    fcit_keep_client_updates: bool = option(False, "Keep every client's update as an update folder in output_dir/updates.")

    def parse(self) -> None:
        """Nothing to turn."""

    def check(self) -> None:
        """Refuse values that cannot work, alone or together."""
        check_at_least(self, 1, "fcit_eval_samples")
