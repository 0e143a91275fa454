"""What the towers are made of, under the names that checkpoints use."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from encoders.config_fields import UnsupportedField, check_fields, check_numbers, short
from encoders.nn.layers import activation


def _read(
    cls: type,
    raw: Mapping[str, Any],
    part: str,
    fixed: Mapping[str, Any],
    aliases: Mapping[str, str],
    read: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The fields of a dataclass from a config.

    A field of `fixed` has only one supported value; see `check_fields` for those that are not read. A field may come
    under its alias, the name that all of transformers' configs share.
    """
    raw = dict(raw)
    for alias, name in aliases.items():
        if raw.get(alias) is not None and raw.setdefault(name, raw[alias]) != raw[alias]:
            raise ValueError(f"{alias} is {short(raw[alias])}, but {name}, which means the same, is {short(raw[name])}")
    known = {field.name for field in fields(cls)}
    check_fields(raw, part, {*known, *aliases, *read}, {name: (value,) for name, value in fixed.items()})
    return {name: value for name, value in raw.items() if name in known and value is not None}


def _side(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that may be written once for each axis."""
    value = raw.get(name)
    if isinstance(value, list | tuple):
        if not value or any(side != value[0] for side in value):
            raise ValueError(f"{name} is {short(value)}; supported: one size for all axes")
        value = value[0]
    return {name: value}


def _check_activation(field: str, name: str) -> None:
    try:
        activation(name)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


_SIZES_OF_VISION = (
    "depth hidden_size intermediate_size num_heads in_channels patch_size spatial_merge_size temporal_patch_size "
    "out_hidden_size num_position_embeddings rope_theta"
).split()
_SIZES_OF_AUDIO = (
    "num_mel_bins encoder_layers encoder_attention_heads encoder_ffn_dim d_model max_source_positions n_window "
    "n_window_infer output_dim downsample_hidden_size"
).split()


@dataclass(frozen=True)
class VisionConfig:
    """A vision encoder and its projector. Defaults are those of the released Qwen3-Omni checkpoints.

    Attributes:
        depth: transformer blocks.
        hidden_size: width.
        hidden_act: activation of the blocks' MLPs.
        intermediate_size: hidden width of the blocks' MLPs.
        num_heads: attention heads.
        in_channels: colour channels.
        patch_size: side of a patch in pixels.
        spatial_merge_size: patches a side of the block that becomes one token.
        temporal_patch_size: frames that share a patch.
        out_hidden_size: width of the tokens, which is the decoder's.
        num_position_embeddings: entries of the learned position table, a square.
        deepstack_visual_indexes: blocks after which features are taken for the decoder's first layers.
        rope_theta: base of the rotary frequencies.
    """

    depth: int = 27
    hidden_size: int = 1152
    hidden_act: str = "gelu_pytorch_tanh"
    intermediate_size: int = 4304
    num_heads: int = 16
    in_channels: int = 3
    patch_size: int = 16
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    out_hidden_size: int = 2048
    num_position_embeddings: int = 2304
    deepstack_visual_indexes: tuple[int, ...] = (8, 16, 24)
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        _check_activation("hidden_act", self.hidden_act)
        check_numbers(self, _SIZES_OF_VISION)
        if self.hidden_size % (4 * self.num_heads):
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of 4 * num_heads {self.num_heads}")
        if round(self.num_position_embeddings**0.5) ** 2 != self.num_position_embeddings:
            raise ValueError(f"num_position_embeddings {self.num_position_embeddings} is not a square")
        wanted = tuple(sorted(set(self.deepstack_visual_indexes)))
        if self.deepstack_visual_indexes != wanted or any(not 0 <= i < self.depth for i in wanted):
            raise ValueError(
                f"deepstack_visual_indexes {self.deepstack_visual_indexes} are not rising blocks below {self.depth}"
            )

    @property
    def merge_unit(self) -> int:
        """Patches that become one token."""
        return self.spatial_merge_size**2

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "VisionConfig":
        """Reads a config.json's `vision_config`.

        Raises:
            ValueError: a field holds a value that is not supported.
        """
        rope = raw.get("rope_parameters") or {}
        if not isinstance(rope, Mapping):
            raise ValueError(f"rope_parameters is {short(rope)}; supported: an object")
        for name in ("rope_type", "type"):
            if rope.get(name, "axial") not in ("axial", "default"):
                raise UnsupportedField(f"{name} is {short(rope[name])}; supported: 'axial'")
        if raw.get("rope_scaling"):
            raise UnsupportedField(f"rope_scaling is {short(raw['rope_scaling'])}; supported: to leave it out")
        check_fields(rope, "vision config's rope_parameters", ("rope_type", "type", "rope_theta"))
        rest = {**raw, **_side(raw, "patch_size"), **_side(raw, "temporal_patch_size")}
        if "rope_theta" in rope:
            rest["rope_theta"] = rope["rope_theta"]
        patch_size = rest["patch_size"] or cls.patch_size
        fixed = {
            "apply_vit_abs_pos_embed": True,
            "spatial_patch_size": patch_size,
            "qkv_bias": True,
            "attention_bias": True,
            "layer_norm_eps": 1e-6,
            "rms_norm_eps": 1e-6,
            "num_key_value_heads": rest.get("num_heads") or rest.get("num_attention_heads") or cls.num_heads,
        }
        aliases = {"num_hidden_layers": "depth", "num_attention_heads": "num_heads"}
        values = _read(cls, rest, "vision config", fixed, aliases, ("rope_parameters", "rope_scaling"))
        levels = values.get("deepstack_visual_indexes", ())
        if not isinstance(levels, list | tuple) or not all(type(level) is int for level in levels):
            raise ValueError(f"deepstack_visual_indexes is {short(levels)}; supported: a list of whole numbers")
        if "deepstack_visual_indexes" in values:
            values["deepstack_visual_indexes"] = tuple(levels)
        return cls(**values)


@dataclass(frozen=True)
class AudioConfig:
    """An audio encoder and its projector. Defaults are those of the released Qwen3-Omni checkpoints.

    Attributes:
        num_mel_bins: mel bands.
        encoder_layers: transformer layers.
        encoder_attention_heads: attention heads.
        encoder_ffn_dim: hidden width of the layers' MLPs.
        d_model: width.
        activation_function: activation of the layers' MLPs and the projector.
        max_source_positions: entries of the sinusoid table.
        n_window: half the mel frames of a chunk, which is convolved by itself.
        n_window_infer: mel frames of an attention window, a whole number of chunks.
        output_dim: width of the tokens, which is the decoder's.
        downsample_hidden_size: channels of the convolutions.
        whole_chunks: whether audio shorter than a chunk is padded to one, as the last chunk of longer audio is; if
            not, it is convolved at its own length.
    """

    num_mel_bins: int = 128
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    d_model: int = 1280
    activation_function: str = "gelu"
    max_source_positions: int = 1500
    n_window: int = 50
    n_window_infer: int = 800
    output_dim: int = 2048
    downsample_hidden_size: int = 480
    whole_chunks: bool = False

    def __post_init__(self) -> None:
        _check_activation("activation_function", self.activation_function)
        check_numbers(self, _SIZES_OF_AUDIO)
        if self.d_model % self.encoder_attention_heads or self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} does not fit encoder_attention_heads")
        if self.n_window_infer % self.chunk_frames:
            raise ValueError(
                f"n_window_infer {self.n_window_infer} is not a multiple of {self.chunk_frames} (2 * n_window)"
            )
        if self.chunk_tokens > self.max_source_positions:
            raise ValueError(f"max_source_positions {self.max_source_positions} is below {self.chunk_tokens}")

    @property
    def chunk_frames(self) -> int:
        """Mel frames that are convolved together."""
        return 2 * self.n_window

    @property
    def chunk_tokens(self) -> int:
        """Tokens of a whole chunk."""
        return downsampled(self.chunk_frames)

    @property
    def window_chunks(self) -> int:
        """Chunks that attend to one another."""
        return self.n_window_infer // self.chunk_frames

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "AudioConfig":
        """Reads a config.json's `audio_config`.

        Raises:
            ValueError: a field holds a value that is not supported.
        """
        aliases = {
            "num_hidden_layers": "encoder_layers",
            "num_attention_heads": "encoder_attention_heads",
            "intermediate_size": "encoder_ffn_dim",
            "hidden_size": "d_model",
            "max_position_embeddings": "max_source_positions",
        }
        heads = raw.get("encoder_attention_heads") or raw.get("num_attention_heads") or cls.encoder_attention_heads
        fixed = {"scale_embedding": False, "layer_norm_eps": 1e-5, "num_key_value_heads": heads}
        return cls(**_read(cls, raw, "audio config", fixed, aliases))


def downsampled(frames: int) -> int:
    """Length after the three convolutions of stride 2."""
    for _ in range(3):
        frames = (frames - 1) // 2 + 1
    return frames
