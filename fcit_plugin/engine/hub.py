"""``push_to_hub``: what can be given away of a finished run goes to the Hugging Face Hub, by the keys of the trainer."""

import tempfile
from pathlib import Path

from httpx import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from ..errors import FcitError
from ..serving.publish import public_encoder, publish


class Hub:
    """The repository of a run.

    It is made, or found, before the run begins, so that a wrong name or token shows at once.

    Args:
        training_args: LLaMA-Factory's training arguments: ``hub_model_id`` (default: the name of ``output_dir``),
            ``hub_token``, ``hub_private_repo``, ``hub_revision``.
        encoder: The run's ``fcit_identity_encoder``.

    Raises:
        FcitError: The repository cannot be made, or others do not have the encoder; the sentence names the key.
    """

    def __init__(self, training_args, encoder: str) -> None:
        public_encoder(encoder, "take `push_to_hub` out, or set `fcit_identity_encoder`")
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
        """Upload what ``fcit-cli publish`` makes of the folder; returns the commit's address."""
        with tempfile.TemporaryDirectory(prefix=".publish-", dir=self.folder) as beside:
            published = Path(beside) / "published"
            publish(self.folder, published)
            done = self.api.upload_folder(
                repo_id=self.repo_id, folder_path=published, commit_message=message, revision=self.revision
            )
        return done.commit_url
