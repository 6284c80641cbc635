"""Everything that a published LoRA's card says, as plain values; people's texts in them are as they typed them. No torch."""

from dataclasses import dataclass

from studio.config import TrainConfig
from studio.datasets.importing.images import clean_text
from studio.families.facts import Licence
from studio.publishing.licensing import Grant

LONGEST_TEXT = 10_000


@dataclass(frozen=True)
class SingleFile:
    """How plain diffusers opens a base that is one file: by the class `opened_by`, which is that of the pipeline, or of the one model `part`
    alone. `rest` is the base on the Hub that gives what the file lacks, empty where that was a folder; `schedule` what the file says otherwise
    than the rest's scheduler."""

    opened_by: str
    part: str = ""
    rest: str = ""
    revision: str = ""
    schedule: tuple[tuple[str, str | bool], ...] = ()


@dataclass(frozen=True)
class Base:
    """What the LoRA sits on. `hub_id` only where the Hub has it under that name; `folder` is what code on this computer opens, a folder or
    a single file. `id` is what a config may say in public: what lies on somebody's computer is called by its name. `hint` says where others
    find it, `licence` is None where it is not known, and `stated_licence` the maker's word then."""

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
    def licence_unknown(self) -> bool:
        """On the Hub a base's own page says it; of what lies on a computer only its owner can."""
        return not (self.licence or self.stated_licence or self.hub_id)


@dataclass(frozen=True)
class Sample:
    """One row of the gallery; `before` is the base alone, same prompt and seed, where the run drew it."""

    prompt: str
    path: str
    before: str | None = None


@dataclass(frozen=True)
class Trained:
    """What the run measured. `seconds` is None when the run did not say."""

    steps: int
    seconds: float | None
    pictures: int
    captioned_with_trigger: int
    dataset_sha256: str
    adapter_sha256: str
    stopped_early: bool = False
    masked: int = 0
    """Pictures whose masks were used."""


@dataclass(frozen=True)
class Rights:
    """Who answers for this, and for the people shown."""

    statement: str = ""
    stated_by: str = ""
    real_person: bool = False
    consent: str = ""


@dataclass(frozen=True)
class About:
    """Everything the card says. `repo_id` may be empty: then the code opens the folder that the card lies in."""

    title: str
    description: str
    repo_id: str
    config: TrainConfig
    family_title: str
    family_tags: tuple[str, ...]
    call_arguments: dict[str, float | str]
    """What plain diffusers is called with besides the prompt, steps and chance: Family.code_arguments."""
    base: Base
    trained: Trained
    rights: Rights
    samples: tuple[Sample, ...] = ()
    grant: Grant = Grant()
    """The licence that it is given."""

    @property
    def trigger_word(self) -> str:
        return plain(self.config.dataset.trigger_word)

    @property
    def prompt(self) -> str:
        """A prompt that shows it: the first sample's, else the trigger word."""
        return plain(self.samples[0].prompt) if self.samples else self.trigger_word


def plain(text: str) -> str:
    """A person's text as one line without characters that hide or reorder what is read."""
    return clean_text(text, LONGEST_TEXT)
