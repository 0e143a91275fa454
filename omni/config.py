"""What a checkpoint directory says about its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from encoders.config import AudioConfig, VisionConfig
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError, is_number, is_whole, shown
from omni.generation_fields import warn_of_unread

Kind = Literal["image", "audio", "video"]


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that media are laid out with, under the names of config.json; None where a family has none.

    Attributes:
        image_token_id: placeholder of a picture's row.
        video_token_id: placeholder of a clip's row.
        audio_token_id: placeholder of a recording's row.
        audio_start_token_id: before a recording.
        audio_end_token_id: after a recording.
        vision_start_token_id: before a picture, and before each frame of a clip where frames are apart.
        vision_end_token_id: after it.
    """

    image_token_id: int | None = None
    video_token_id: int | None = None
    audio_token_id: int | None = None
    audio_start_token_id: int | None = None
    audio_end_token_id: int | None = None
    vision_start_token_id: int | None = None
    vision_end_token_id: int | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], names: Sequence[str] | None = None) -> "SpecialTokens":
        """Reads the config of the model that joins the parts.

        Args:
            raw: its fields.
            names: those that a family has; all when None.

        Raises:
            ValueError: an id is absent.
        """
        names = list(cls.__dataclass_fields__) if names is None else names
        missing = [name for name in names if raw.get(name) is None]
        if missing:
            raise ValueError(f"the config lacks {', '.join(missing)}")
        return cls(**{name: int(raw[name]) for name in names})

    def placeholder(self, kind: Kind) -> int | None:
        """The id that stands for a row of a medium; None for a kind that the model does not read."""
        return {"image": self.image_token_id, "video": self.video_token_id, "audio": self.audio_token_id}[kind]


@dataclass(frozen=True)
class TranscriptForm:
    """How a speech recogniser writes what it hears.

    Attributes:
        opening: how a reply begins that is to be in `{language}`; the transcript follows.
        marker: what stands between the language and the transcript in a reply.
        languages: the model's names of languages, by what users may call them, in lower case.
        longest: seconds of sound that the model is made to read at once.
    """

    opening: str
    marker: str
    languages: Mapping[str, str] = field(hash=False)
    longest: int


@dataclass(frozen=True)
class RelevanceForm:
    """How a reranker is asked whether a document meets a query: its answer is `yes` or `no`.

    Attributes:
        system: the system message.
        instruction: what stands for the instruction of a caller that has none.
        before: what stands before the instruction, the query and the document.
        template: file name of the chat template in omni/assets/templates, whatever one the directory holds.
        yes: the token whose probability beside that of `no` is the score.
        no: the other token.
        nothing: what stands for a query or a document without content.
        empty_thought: whether the answer comes after a thought that is empty.
    """

    system: str
    instruction: str
    before: tuple[str, str, str]
    template: str
    yes: str = "yes"
    no: str = "no"
    nothing: str = ""
    empty_thought: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """The parts of a model, each with its own config.

    Attributes:
        vision: the vision tower; None when not loaded.
        audio: the audio tower; None when not loaded.
        text: the text decoder; None when not loaded.
        tokens: ids of the placeholder and boundary tokens; None for text alone.
        position_id_per_seconds: steps of the time axis in one second of video or sound.
        dtype: what the files say the weights are, such as "bfloat16".
        transcript: how a speech recogniser writes; None for models that answer freely.
        relevance: how a reranker is asked; None for models that are none.
    """

    vision: VisionConfig | None
    audio: AudioConfig | None
    text: TextConfig | None
    tokens: SpecialTokens | None
    position_id_per_seconds: float
    dtype: str | None = None
    transcript: TranscriptForm | None = None
    relevance: RelevanceForm | None = None

    @property
    def deepstack_levels(self) -> int | None:
        """Levels that its media bring to the decoder's first layers; None for text alone."""
        if self.tokens is None:
            return None
        return 0 if self.vision is None else len(self.vision.deepstack_visual_indexes)


@dataclass(frozen=True)
class GenerationConfig:
    """End tokens and sampling defaults, from generation_config.json.

    Attributes:
        eos_token_ids: tokens that end a reply.
        temperature: 0 is greedy.
        top_p: smallest set of tokens whose probability reaches this; 1 keeps all.
        top_k: most tokens to choose from; 0 keeps all.
        min_p: tokens less likely than this share of the most likely one are dropped; 0 keeps all.
        repetition_penalty: of tokens that the prompt or the reply holds; 1 for none.
    """

    eos_token_ids: tuple[int, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], otherwise: Sequence[int] = ()) -> "GenerationConfig":
        """Reads the file's fields; without `do_sample` the default is greedy, as the file's owner would get.

        A warning names fields that would change replies and that are not read, and those of which nothing is known.

        Args:
            raw: the file's content.
            otherwise: end tokens for a file that names none.

        Raises:
            CheckpointError: a field holds no number, or one that cannot be used.
        """
        given = {name: value for name, value in raw.items() if value is not None}
        ids = token_ids(given.get("eos_token_id"), "generation_config.json: eos_token_id") or tuple(otherwise)
        sampled = given.get("do_sample", False)
        if not isinstance(sampled, bool):
            raise _generation_error("do_sample", sampled)
        warn_of_unread(raw, {"do_sample", "eos_token_id", *(field.name for field in fields(cls))}, sampled=sampled)
        penalty = given.get("repetition_penalty", 1.0)
        if not is_number(penalty) or not 0 < penalty < 1e6:
            raise _generation_error("repetition_penalty", penalty)
        if not sampled:
            return cls(ids, repetition_penalty=float(penalty))
        temperature, top_p, top_k = given.get("temperature", 1.0), given.get("top_p", 1.0), given.get("top_k", 50)
        if not is_number(temperature) or not 0 <= temperature < 1e6:
            raise _generation_error("temperature", temperature)
        if not is_number(top_p) or not 0 < top_p <= 1:
            raise _generation_error("top_p", top_p)
        if not is_whole(top_k) or not 0 <= top_k < 1 << 31:
            raise _generation_error("top_k", top_k)
        min_p = given.get("min_p", 0.0)
        if not is_number(min_p) or not 0 <= min_p <= 1:
            raise _generation_error("min_p", min_p)
        return cls(ids, float(temperature), float(top_p), int(top_k), float(min_p), float(penalty))


def token_ids(value: Any, where: str) -> tuple[int, ...]:
    """The ids of a field that holds one, several or none.

    Raises:
        CheckpointError: it holds something else.
    """
    several = value if isinstance(value, list | tuple) else () if value is None else (value,)
    if not all(map(is_whole, several)):
        raise CheckpointError(f"{where} cannot be {shown(value)}: it must hold token ids", code="bad_generation_config")
    return tuple(map(int, several))


def _generation_error(name: str, value: Any) -> CheckpointError:
    return CheckpointError(f"generation_config.json: {name} cannot be {shown(value)}", code="bad_generation_config")


def section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within config.json.

    Raises:
        ValueError: it is absent or something else.
    """
    value = raw.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object, and is {shown(value)}")
    return value
