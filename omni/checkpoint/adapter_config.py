"""adapter_config.json of PEFT: how much of a low-rank product is added to each weight.

Only plain LoRA is computed with. What would change the numbers in another manner is refused, and so are fields that
nothing here knows: PEFT gains a few with every release.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni.checkpoint.json_file import read_json
from omni.errors import CheckpointError, is_number, is_whole, shown

FILE = "adapter_config.json"
# Where adapters are, the tensors' names tell; and of training, of tensor parallelism and of programs.
_HARMLESS = frozenset(
    """arrow_config auto_mapping base_model_name_or_path corda_config eva_config exclude_modules inference_mode
    layers_pattern layers_to_transform loftq_config lora_dropout lora_ga_config megatron_core peft_version
    qalora_group_size revision runtime_config target_modules task_type""".split()
)
_READ = frozenset(
    """alpha_pattern ensure_weight_tying init_lora_weights lora_alpha modules_to_save peft_type r rank_pattern
    target_parameters use_rslora""".split()
)
# Beginnings that leave the base model's own weights as they are; others, such as PiSSA's, take a part out of them.
_INITIALISERS = (True, False, None, "gaussian", "orthogonal", "eva")
_MOST_PATTERNS, _LONGEST_PATTERN, _MOST_REPEATS = 2000, 300, 2
_LARGEST_RANK = 1 << 17


@dataclass(frozen=True)
class AdapterConfig:
    """What a directory of an adapter says of it.

    Attributes:
        rank: of a product where no pattern says another.
        alpha: a product is multiplied by it over the rank; where no pattern says another.
        rank_pattern: expression of modules' names -> rank.
        alpha_pattern: expression of modules' names -> alpha.
        rank_stabilised: alpha is divided by the root of the rank (arXiv:2312.03732).
        replaced: modules whose own weights the adapter brings.
        parameters: parameters that are adapted by their own names, as those of fused experts are.
        tied: the output head follows an embedding that the adapter changes.
    """

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    replaced: tuple[str, ...]
    parameters: tuple[str, ...]
    tied: bool

    def rank_of(self, module: str) -> int:
        """The rank of a module's product, by the module's whole name."""
        return next((rank for pattern, rank in self.rank_pattern.items() if _matches(pattern, module)), self.rank)

    def scale_of(self, module: str) -> float:
        """What a module's product is multiplied by."""
        alpha = next((a for pattern, a in self.alpha_pattern.items() if _matches(pattern, module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read_adapter_config(directory: Path) -> AdapterConfig:
    """The settings of an adapter's directory.

    Raises:
        CheckpointError: `file_missing`, `bad_json`; `unsupported_adapter`, with everything that is not computed here;
            `bad_adapter`, a field has no value that can be used.
    """
    raw = read_json(directory / FILE)
    unsupported = list(_unsupported(raw))
    if unsupported:
        message = f"the adapter asks for what is not supported: {unsupported[0]}"
        raise CheckpointError(message, code="unsupported_adapter", problems=unsupported[1:] and unsupported)
    try:
        rank, alpha = _rank("r", raw.get("r", 8)), _alpha("lora_alpha", raw.get("lora_alpha", 8))
        return AdapterConfig(
            rank,
            alpha,
            {name: _rank("rank_pattern", value) for name, value in _patterns(raw, "rank_pattern").items()},
            {name: _alpha("alpha_pattern", value) for name, value in _patterns(raw, "alpha_pattern").items()},
            _truth(raw, "use_rslora"),
            _names(raw, "modules_to_save"),
            _names(raw, "target_parameters"),
            _truth(raw, "ensure_weight_tying"),
        )
    except ValueError as error:
        raise CheckpointError(f"{FILE}: {error}", code="bad_adapter") from error


def _unsupported(raw: Mapping[str, Any]) -> Iterator[str]:
    kind = raw.get("peft_type")
    if kind != "LORA":
        yield f"peft_type is {shown(kind)}, and LORA alone is read"
    start = raw.get("init_lora_weights", True)
    if not any(start is one or (isinstance(one, str) and start == one) for one in _INITIALISERS):
        yield (
            f"init_lora_weights is {shown(start)}, which changes the base model's weights; save the adapter as plain "
            "LoRA (`path_initial_model_for_weight_conversion`)"
        )
    if raw.get("bias") not in (None, "none"):
        yield f"bias is {shown(raw['bias'])}"
    for name, value in raw.items():
        if name not in _HARMLESS | _READ | {"bias"} and value not in (None, False, 0, "", [], {}):
            yield f"{name[:60]} is {shown(value)}"


def _rank(name: str, value: Any) -> int:
    if not is_whole(value) or not 0 < value <= _LARGEST_RANK:
        raise ValueError(f"a rank in {name} cannot be {shown(value)}")
    return int(value)


def _alpha(name: str, value: Any) -> float:
    if not is_number(value) or not math.isfinite(value):
        raise ValueError(f"an alpha in {name} cannot be {shown(value)}")
    return float(value)


def _truth(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name) or False
    if not isinstance(value, bool):
        raise ValueError(f"{name} cannot be {shown(value)}")
    return value


def _names(raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = raw.get(name) or []
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} must be a list of names")
    return tuple(value)


def _patterns(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name) or {}
    if not isinstance(value, Mapping) or len(value) > _MOST_PATTERNS:
        raise ValueError(f"{name} must be an object of at most {_MOST_PATTERNS} entries")
    for pattern in value:
        # A stranger's expression may take for ever: those with few repeats, and none within another, do not.
        repeats = len(re.findall(r"[*+?{]", re.sub(r"\\.|\(\?:", "", pattern)))
        if len(pattern) > _LONGEST_PATTERN or repeats > _MOST_REPEATS or re.search(r"\)[*+?{]|\\\d|\(\?[^:]", pattern):
            raise ValueError(f"the expression {pattern[:60]!r} in {name} is longer or has more repeats than is read")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern[:60]!r} in {name} is not a regular expression: {error}") from error
    return value


def _matches(pattern: str, module: str) -> bool:
    """Whether an expression fits the whole of a name, or what follows one of its dots."""
    starts = [0, *(match.end() for match in re.finditer(r"\.", module))]
    return any(re.compile(pattern).fullmatch(module, start) for start in starts)
