"""What a text decoder is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from encoders.config_fields import UnsupportedField, check_fields, check_numbers, short
from omni.decoder.depth import Block, LayerKind, Run, runs
from omni.decoder.gated_delta_net import GatedDeltaConfig

# Fields that this decoder implements for one value only.
_ONLY: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_qk_norm": (True,),
    "use_sliding_window": (False,),
    "mamba_ssm_dtype": ("float32",),
    "output_gate_type": ("swish", "silu"),
}

_READ_BY_HAND = {"rope_scaling", "rope_parameters", "full_attention_interval", "num_local_experts"}
# Of no account where the type is "default".
_ROTARY_NOTES = {"rope_type", "type", "interleaved", "mrope_interleaved", "original_max_position_embeddings"}
_ROTARY = {"rope_theta", "mrope_section", "partial_rotary_factor"}
_ATTENTIONS = ("full_attention", "linear_attention")


@dataclass(frozen=True)
class TextConfig:
    """A Qwen3 decoder; fields are named, and default, as in the reference's `Qwen3OmniMoeTextConfig`.

    Attributes:
        vocab_size: V, rows of the embedding.
        hidden_size: D, width of the hidden state.
        num_hidden_layers: depth.
        num_attention_heads: N, query heads.
        num_key_value_heads: K, key and value heads; each serves N / K query heads.
        head_dim: H, width of a head; the hidden size over the heads when None.
        intermediate_size: F of a dense layer.
        num_experts: E; 0 makes every layer dense.
        num_experts_per_tok: experts that a token visits.
        moe_intermediate_size: F of an expert.
        shared_expert_intermediate_size: F of an expert that every token visits, weighed by a sigmoid; 0 for none.
        norm_topk_prob: whether the weights of the visited experts are made to sum to 1.
        decoder_sparse_step: every how many layers experts stand in for a dense MLP.
        mlp_only_layers: layers that are dense whatever the step says.
        layer_types: "full_attention" or "linear_attention" for each layer; all full when empty.
        linear_num_value_heads: heads that keep a state, of a linear layer.
        linear_num_key_heads: heads of its queries and keys.
        linear_key_head_dim: width of its queries and keys.
        linear_value_head_dim: width of its values.
        linear_conv_kernel_dim: tokens that its convolution sees.
        linear_projections: "separate", or "interleaved" by key head; a family's, not in files.
        output_router_logits: whether training balances the experts; what is computed does not change.
        router_aux_loss_coef: how much that weighs beside the loss.
        rms_norm_eps: added to the mean square.
        zero_centered_norms: whether norms scale by 1 + weight; a family's, not in files.
        rope_theta: base of the rotary frequencies.
        partial_rotary_factor: part of a head, from its first channel on, that is turned.
        mrope_section: rotary frequencies that follow time, height and width. Text has the same position on all
            three, so for text alone any split gives the same result.
        attention_bias: whether the attention projections have biases.
        attn_output_gate: whether what attention says is weighed by a sigmoid, whose rows follow those of the query in
            each head of `q_proj`.
        tie_word_embeddings: whether the embedding serves as the output head.
        max_position_embeddings: longest sequence that the model was made for.
        output_head: False for a model that only makes embeddings, and so has no output head; not in files.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int | None = None
    intermediate_size: int = 18944
    num_experts: int = 128
    num_experts_per_tok: int = 8
    moe_intermediate_size: int = 768
    shared_expert_intermediate_size: int = 0
    norm_topk_prob: bool = True
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()
    layer_types: tuple[str, ...] = ()
    linear_num_value_heads: int = 32
    linear_num_key_heads: int = 16
    linear_key_head_dim: int = 128
    linear_value_head_dim: int = 128
    linear_conv_kernel_dim: int = 4
    linear_projections: str = "separate"
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    rms_norm_eps: float = 1e-6
    zero_centered_norms: bool = False
    rope_theta: float = 1e6
    partial_rotary_factor: float = 1.0
    mrope_section: tuple[int, int, int] = (24, 20, 20)
    attention_bias: bool = False
    attn_output_gate: bool = False
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 32768
    output_head: bool = True

    def __post_init__(self) -> None:
        check_numbers(self, ("rms_norm_eps", "rope_theta", "partial_rotary_factor"))
        if len(self.mrope_section) != 3 or not all(type(n) is int and 0 <= n < 1 << 16 for n in self.mrope_section):
            raise ValueError(f"mrope_section={short(self.mrope_section)} is not three whole numbers")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}"
            )
        if self.rotary_width % 2 or not 0 < self.rotary_width <= self.head_width:
            raise ValueError(
                f"head_dim={self.head_width} with partial_rotary_factor={self.partial_rotary_factor} turns "
                f"{self.rotary_width} channels; rotary positions turn pairs"
            )
        if self.num_experts_per_tok > self.num_experts > 0:
            raise ValueError(f"num_experts_per_tok={self.num_experts_per_tok} of num_experts={self.num_experts}")
        if self.num_experts > 0 and self.num_experts_per_tok < 1:
            raise ValueError(f"num_experts_per_tok={self.num_experts_per_tok} of num_experts={self.num_experts}")
        if not all(type(layer) is int for layer in self.mlp_only_layers):
            raise ValueError(f"mlp_only_layers={short(self.mlp_only_layers)} are not numbers of layers")
        if unknown := set(self.layer_types) - set(_ATTENTIONS):
            raise ValueError(f"layer_types={sorted(unknown)} is not supported; supported are {', '.join(_ATTENTIONS)}")
        if self.layer_types and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(f"{len(self.layer_types)} layer_types for num_hidden_layers={self.num_hidden_layers}")
        if self.decoder_sparse_step < 1:
            raise ValueError(f"decoder_sparse_step={self.decoder_sparse_step} is not 1 or more")
        if "linear_attention" in self.layer_types:
            _ = self.linear  # checks its own sizes
        if self.linear_projections not in ("separate", "interleaved"):
            raise ValueError(f"linear_projections={self.linear_projections!r} is not separate or interleaved")

    @property
    def head_width(self) -> int:
        """H, the width of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rotary_width(self) -> int:
        """Channels of a head that are turned."""
        return int(self.head_width * self.partial_rotary_factor)

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """What each layer is, in the order of the depth."""
        attentions = self.layer_types or ("full_attention",) * self.num_hidden_layers
        return tuple(LayerKind(kind, self._has_experts(layer)) for layer, kind in enumerate(attentions))

    @property
    def runs(self) -> tuple[Run, ...]:
        """The depth as runs of a repeating cycle."""
        return runs(self.kinds)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The stacks of layers that share parameters' arrays, of all runs."""
        return tuple(block for run in self.runs for block in run)

    @property
    def untied_head(self) -> bool:
        """Whether there is an output head that is not the embedding."""
        return self.output_head and not self.tie_word_embeddings

    @property
    def is_sparse(self) -> bool:
        """Whether any layer has experts."""
        return any(kind.sparse for kind in self.kinds)

    @property
    def linear(self) -> GatedDeltaConfig:
        """The sizes of a linear layer."""
        shared = {field.name: getattr(self, field.name) for field in fields(GatedDeltaConfig)}
        return GatedDeltaConfig(**shared)

    def layers_with(self, attention: str) -> int:
        """How many layers attend in that way."""
        return sum(kind.attention == attention for kind in self.kinds)

    def _has_experts(self, layer: int) -> bool:
        on_step = self.num_experts > 0 and (layer + 1) % self.decoder_sparse_step == 0
        return on_step and layer not in self.mlp_only_layers

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "TextConfig":
        """Reads the text part of a config.json.

        Raises:
            ValueError: a field is missing, or has a value that this decoder does not implement.
        """
        if "num_local_experts" in raw:  # as transformers 5 writes it
            raw = {"num_experts": raw["num_local_experts"], **raw}
            if raw["num_experts"] != raw["num_local_experts"]:
                raise ValueError("num_experts and num_local_experts, which mean the same, differ")
        known = {field.name for field in fields(cls)} - {"linear_projections", "zero_centered_norms", "output_head"}
        values: dict[str, Any] = {name: raw[name] for name in known - _ROTARY if raw.get(name) is not None}
        check_fields(raw, "text config", known | _READ_BY_HAND, _ONLY)
        missing = {field.name for field in fields(cls) if field.default is field.default_factory} - values.keys()
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))} missing from the text config")
        for name in ("mlp_only_layers", "layer_types"):
            values[name] = _listed(name, values.get(name))
        interval = raw.get("full_attention_interval")
        if interval is not None and not values["layer_types"]:
            if not isinstance(interval, int) or interval < 1:
                raise ValueError(f"full_attention_interval={interval!r} is not a whole number of 1 or more")
            layers = range(values["num_hidden_layers"])
            values["layer_types"] = tuple(_ATTENTIONS[(layer + 1) % interval > 0] for layer in layers)
        return cls(**values, **_rope(raw))


def _listed(name: str, value: Any) -> tuple[Any, ...]:
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError(f"{name}={short(value)} is not a list")
    return tuple(value or ())


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary fields, from the newer `rope_parameters` or from `rope_scaling` with `rope_theta` beside it.

    Where a file has both, the reference obeys `rope_scaling` alone; so both are read, and must say the same.
    """
    both = {name: raw[name] for name in ("rope_scaling", "rope_parameters") if raw.get(name)}
    for name, value in both.items():
        if not isinstance(value, Mapping):
            raise ValueError(f"{name}={short(value)} is not an object")
    beside = {name: raw.get(name) for name in ("rope_theta", "partial_rotary_factor")}
    read = {name: _rotary_fields({**beside, **value}) for name, value in both.items()} or {"": _rotary_fields(beside)}
    first, *others = read.values()
    if any(other != first for other in others):
        differing = sorted(name for name in {*first, *others[0]} if first.get(name) != others[0].get(name))
        raise ValueError(f"rope_scaling and rope_parameters differ in {', '.join(differing)}; keep one of the two")
    return first


def _rotary_fields(rope: Mapping[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in rope.items():
        if name in ("rope_theta", "partial_rotary_factor"):
            read |= {} if value is None else {name: _number(name, value)}
        elif name == "mrope_section":
            read[name] = _listed(name, value)
        elif name in ("rope_type", "type") and value not in ("default", "mrope"):
            raise UnsupportedField(f"{name}={short(value)} in the rotary settings is not supported; {_remedy(value)}")
        elif name in ("interleaved", "mrope_interleaved") and value is not True:
            raise UnsupportedField(f"{name}={short(value)} in the rotary settings is not supported")
        elif name not in _ROTARY_NOTES and value is not None:
            raise UnsupportedField(f"{name}={short(value)} in the rotary settings is not supported")
    return read


def _remedy(kind: Any) -> str:
    scaled = kind in ("yarn", "linear", "dynamic", "longrope", "llama3", "proportional")
    what = "positions are not stretched to longer contexts" if scaled else "supported is 'default'"
    return f"{what}: leave the entry out for the model's own context length"


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}={short(value)} is not a number")
    return float(value)
