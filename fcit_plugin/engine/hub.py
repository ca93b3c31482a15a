"""``push_to_hub``: a finished run's folder goes to the Hugging Face Hub, by the keys of LLaMA-Factory's own trainer."""

from pathlib import Path

from httpx import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from ..errors import FcitError
from ..state.checkpoints import FOLDER

#: What stays at home: clients' own updates, commits to resume from, and what the trainer leaves out as well.
KEPT_BACK = ("updates/*", f"{FOLDER}/*", "_*", "*.partial")


class Hub:
    """The repository of a run.

    It is made, or found, before the run begins, so that a wrong name or token shows at once.

    Args:
        training_args: LLaMA-Factory's training arguments: ``hub_model_id`` (default: the name of ``output_dir``),
            ``hub_token``, ``hub_private_repo``, ``hub_revision``.

    Raises:
        FcitError: The repository cannot be made; the sentence names the key.
    """

    def __init__(self, training_args) -> None:
        self.folder = Path(training_args.output_dir)
        self.revision = training_args.hub_revision
        self.api = HfApi(token=training_args.hub_token)
        name = training_args.hub_model_id or self.folder.absolute().name
        try:
            made = self.api.create_repo(name, private=training_args.hub_private_repo, exist_ok=True)
        except (HTTPError, HFValidationError, OfflineModeIsEnabled) as error:
            raise FcitError(
                f"`push_to_hub: true`: the repository {name} cannot be made ({' '.join(str(error).split())}); check "
                "`hub_model_id`, `hub_token` and the connection, or take the key out."
            ) from error
        self.repo_id = made.repo_id

    def push(self, message: str = "End of training") -> str:
        """Upload the folder; returns the commit's address."""
        done = self.api.upload_folder(
            repo_id=self.repo_id,
            folder_path=self.folder,
            commit_message=message,
            revision=self.revision,
            ignore_patterns=list(KEPT_BACK),
        )
        return done.commit_url
