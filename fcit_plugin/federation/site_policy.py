"""What a site lets a server ask for: its own recipe says so, and no message of the server's can change it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ..errors import FcitError
from .messages import ClientConfig


@dataclass
class SitePolicy:
    """The bounds of a site.

    Attributes:
        run: The run that the site's recipe describes.
        num_stages: Stages of the recipe.
        num_rounds: Rounds of each of its stages.
        schedule: For each stage the indices of its tasks.
        records: By index of each task that the site takes part in, the number of its records.
        names: The names of all tasks.
        compression: What the recipe has for updates; the server cannot ask for another.
        max_records: The most records of a task that it trains on.
        max_rounds: The most trainings of a run, one for each round where the server asks once in each.
        client: The number that the server has for this site; None before it has asked anything.
        trained: How many trainings of the run there were.
        agreed: Refuses to take part by another recipe than the one by which the site has agreed to the run.
    """

    run: str
    num_stages: int
    num_rounds: int
    schedule: Collection[Collection[int]]
    records: Mapping[int, int]
    names: Collection[str]
    compression: str | None = None
    max_records: int | None = None
    max_rounds: int | None = None
    trained: int = 0
    client: int | None = None
    agreed: Callable[[], None] = lambda: None

    def check(self, config: ClientConfig) -> None:
        """Refuse what the site's recipe does not allow.

        Args:
            config: What is asked for.

        Raises:
            FcitError: One sentence that says what was asked and why it is refused.
        """
        names, schedule = list(self.names), [set(row) for row in self.schedule]
        if config.run != self.run:
            raise FcitError(
                "It belongs to another run than this site's recipe describes; server and site need one recipe (`fcit-cli site "
                "check` says what differs)."
            )
        if not 0 <= config.stage < self.num_stages or not 0 <= config.round < self.num_rounds:
            raise FcitError(f"Stage {config.stage}, round {config.round} is none of this site's recipe.")
        if not 0 <= config.task < len(names) or config.task not in schedule[config.stage]:
            raise FcitError(f"Stage {config.stage} of this site's recipe has no task {config.task}.")
        if config.task not in self.records:
            raise FcitError(f"This site takes no part in task {names[config.task]} (`fcit_site_tasks`).")
        if self.max_records is not None and self.records[config.task] > self.max_records:
            raise FcitError(
                f"This site has {self.records[config.task]} records of task {names[config.task]}, and trains on no more than "
                f"{self.max_records} (`fcit_site_max_records`)."
            )
        if config.compression != self.compression:
            raise FcitError("It asks for updates in another form than `fcit_update_compression` of this site's recipe.")
        self.agreed()

    def check_number(self, config: ClientConfig) -> None:
        """Refuse a question to another number than that of the first one, which decides the noise on the site's tokens.

        Args:
            config: What is asked for.

        Raises:
            FcitError: It is another one; the sentence names both.
        """
        if self.client is None and config.run == self.run:
            self.client = config.client
        if config.run == self.run and config.client != self.client:
            raise FcitError(
                f"This site is number {self.client} of its run, and not {config.client}, which is asked for; let the operator "
                "put the sites in `fcit_sites` back in their order, for a number stays a site's own."
            )

    def count_training(self) -> None:
        """Count a training that is about to begin, whatever comes of it; what a site has kept is answered without one.

        It is trainings that are bounded, not numbers of rounds: a server can ask twice in one round, with other weights.

        Raises:
            FcitError: It would be one too many.
        """
        if self.max_rounds is not None and self.trained >= self.max_rounds:
            raise FcitError(
                f"This site has trained {self.trained} times in this run, and does so no more than {self.max_rounds} times "
                "(`fcit_site_max_rounds`)."
            )
        self.trained += 1
