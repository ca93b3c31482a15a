"""What sites told of their data, kept beside the run: one that is away as the server starts again is not waited for twice."""

from pathlib import Path

from flwr.app import RecordDict
from typing_extensions import TypedDict

from ..federation.hello import Answer, answer_in, told_records, told_text
from ..files import read_as, write_json
from ..schema import Word

#: The file in the server's output folder.
FILE = "sites.json"


class _Told(TypedDict):
    question: Word
    answers: dict[Word, str]


class SiteAnswers:
    """What the sites of a run answered to one question.

    Args:
        folder: The server's output folder.
        question: Digest of what they were asked; answers to another one do not count.
    """

    def __init__(self, folder: Path, question: str) -> None:
        self._path, self._question = folder / FILE, question

    def keep(self, replies: dict[str, RecordDict]) -> None:
        """Keep what sites have told, by their names, each in place of what it told before.

        Raises:
            OSError: It cannot be written.
        """
        told = {name: told_text(content) for name, content in replies.items()}
        write_json(self._path, {"question": self._question, "answers": {**self._read(), **told}})

    def of(self, name: str) -> Answer | None:
        """What a site has told, None where that is not known.

        Raises:
            FcitError: The file is damaged.
        """
        text = self._read().get(name)
        return None if text is None else answer_in(told_records(text), name)

    def _read(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        told = read_as(_Told, self._path)
        return told["answers"] if told["question"] == self._question else {}
