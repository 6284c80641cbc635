"""Plain values for the model card of a published LoRA; texts typed by the user are kept unchanged. No torch."""

from dataclasses import dataclass

from studio.config import TrainConfig
from studio.datasets.importing.images import clean_text
from studio.families.facts import Licence
from studio.publishing.licensing import Grant

LONGEST_TEXT = 10_000


@dataclass(frozen=True)
class SingleFile:
    """How plain diffusers loads a base model stored as one file.

    `loader_class` is the pipeline's class, or the class of the one model `part` in the file. `rest` is the Hub repository with the parts or
    settings the file lacks, empty where they came from a folder; `schedule` holds the scheduler settings in which the file differs from `rest`.
    """

    loader_class: str
    part: str = ""
    rest: str = ""
    revision: str = ""
    schedule: tuple[tuple[str, str | bool], ...] = ()


@dataclass(frozen=True)
class Base:
    """The base model of the LoRA.

    `id` is the public name in the config: a local base is named without its path. `hub_id` is set only for a base on the Hub; `folder` is the
    local path, a folder or a single file, and `hint` tells other users where to find it. `licence` is None where it is unknown; `stated_licence`
    then holds the licence as the user stated it.
    """

    title: str
    id: str
    hub_id: str | None = None
    revision: str | None = None
    licence: Licence | None = None
    folder: str = ""
    hint: str = ""
    stated_licence: str = ""
    single: SingleFile | None = None

    @property
    def has_unknown_licence(self) -> bool:
        """Whether the user has to state the licence: a base on the Hub has it on its own page, a local one does not."""
        return not (self.licence or self.stated_licence or self.hub_id)


@dataclass(frozen=True)
class Sample:
    """A sample image for the gallery; `before` is the base alone with the same prompt and seed, if the run generated it."""

    prompt: str
    path: str
    before: str | None = None


@dataclass(frozen=True)
class Trained:
    """Figures of the training run. `seconds` is None when the run did not record it."""

    steps: int
    seconds: float | None
    images: int
    captions_with_trigger: int
    dataset_sha256: str
    adapter_sha256: str
    stopped_early: bool = False
    masked: int = 0
    """Number of images whose masks were used."""


@dataclass(frozen=True)
class Rights:
    """The publisher's statement of rights, and the consent of the people shown."""

    statement: str = ""
    stated_by: str = ""
    real_person: bool = False
    consent: str = ""


@dataclass(frozen=True)
class CardFacts:
    """Contents of the model card. If `repo_id` is empty, the card's code loads the LoRA from a local folder."""

    title: str
    description: str
    repo_id: str
    config: TrainConfig
    family_title: str
    family_tags: tuple[str, ...]
    call_arguments: dict[str, float | str]
    """Pipeline arguments besides prompt, steps and seed, from Family.code_arguments."""
    base: Base
    trained: Trained
    rights: Rights
    samples: tuple[Sample, ...] = ()
    grant: Grant = Grant()
    """The licence of the LoRA."""

    @property
    def trigger_word(self) -> str:
        return clean_line(self.config.dataset.trigger_word)

    @property
    def prompt(self) -> str:
        """Example prompt: the first sample's, else the trigger word."""
        return clean_line(self.samples[0].prompt) if self.samples else self.trigger_word


def clean_line(text: str) -> str:
    """User text as one line, without characters that hide or reorder text."""
    return clean_text(text, LONGEST_TEXT)
