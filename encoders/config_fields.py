"""One policy for the fields of settings that nothing reads.

Fields that would change what is computed, unless they have a value with which they do not, are told from notes that
programs leave there and that say nothing of the numbers, and from all else. Of a config.json the first are refused; the
notes are passed over; of all else a warning tells.
"""

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# What transformers and other programs write beside the fields that matter: how to train, how to generate, bookkeeping.
_HARMLESS = frozenset(
    """activation_dropout adapters add_cross_attention architectures attention_dropout attn_implementation
    audio_config audio_end_token_id audio_start_token_id audio_token_id auto_map bad_words_ids base_model_name
    begin_suppress_tokens bos_token_id chunk_size_feed_forward classifier_dropout classifier_from_token
    code2wav_config conv_chunksize cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample
    dropout dtype early_stopping emb_pdrop embd_pdrop encoder_layerdrop encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id freeze_vision
    gradient_checkpointing hidden_dropout id2label image_size image_token_id in_chans initializer_factor
    initializer_range is_decoder is_encoder_decoder is_original_qwen3_reranker keys_to_ignore_at_inference label2id
    layerdrop length_penalty max_length max_new_tokens max_window_layers min_length model_name model_type
    no_repeat_ngram_size num_beam_groups num_beams num_labels num_nextn_predict_layers num_return_sequences
    original_max_position_embeddings output_attentions output_hidden_states output_scores pad_token_id padding_idx
    prefix pretraining_tp problem_type pruned_heads remove_invalid_values repetition_penalty resid_pdrop
    return_dict return_dict_in_generate router_jitter_noise sep_token_id sliding_window suppress_tokens
    task_specific_params temperature text_config tf_legacy_loss thinker_config tie_encoder_decoder
    tie_word_embeddings tokenizer_class tokens_per_second top_k top_p torch_dtype torchscript
    transformers.js_config transformers_version typical_p use_bfloat16 use_cache use_return_dict user_token_id
    video_token_id vision_config vision_end_token_id vision_start_token_id vision_token_id vocab_file""".split()
)
_HARMLESS_PREFIXES = ("_", "unsloth", "mtp_", "talker_", "omni_demo", "wandb", "axolotl", "llamafactory", "swift_")

# Fields that would change what is computed, with the values that do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        """alibi attention_sink attention_sinks attn_temperature_tuning bias lm_head_bias mlp_bias norm_bias
        parallel_attn parallel_residual rope_interleave scale_embedding use_alibi use_attention_sinks use_bias
        use_bidirectional_attention use_mla use_parallel_residual""".split(),
        (False,),
    ),
    **dict.fromkeys(
        """attention_chunk_size attention_multiplier attn_logit_softcapping clip_qkv compression_config
        final_logit_softcapping fullatt_block_indexes kv_lora_rank logit_softcapping lora_config no_rope_layer_interval
        no_rope_layers q_lora_rank quantization quantization_config query_pre_attn_scalar rope_local_base_freq
        rotary_dim window_size""".split(),
        (),
    ),
    **dict.fromkeys(
        """embedding_multiplier logit_scale logits_scaling moe_layer_freq n_group num_expert_group residual_multiplier
        rotary_pct routed_scaling_factor scale_depth scale_emb topk_group""".split(),
        (1,),
    ),
    **dict.fromkeys(
        "first_k_dense_replace n_shared_experts num_kv_shared_layers num_shared_experts".split(),
        (0,),
    ),
    "hidden_activation": ("silu",),
    "scoring_func": ("softmax",),
}


class UnsupportedField(ValueError):
    """A field asks for something that no part of this library computes."""


@dataclass(frozen=True)
class FieldPolicy:
    """What is known of the fields of one kind of file.

    Attributes:
        harmless: names of notes.
        prefixes: what names of notes may begin with.
        suffixes: what they may end with.
        neutral: names of fields that would change what is computed -> values with which they do not.
    """

    harmless: Collection[str]
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]
    neutral: Mapping[str, tuple[Any, ...]]

    def unread(
        self, raw: Mapping[str, Any], known: Collection[str], only: Mapping[str, tuple[Any, ...]] | None = None
    ) -> tuple[list[str], list[str]]:
        """Return the names of fields that would change what is computed, and of those of which nothing is known.

        Args:
            raw: the fields.
            known: names that are read.
            only: names -> values with which alone they are computed; these precede `known` and `neutral`.
        """
        changing, unknown = [], []
        for name, value in raw.items():
            if only and name in only:
                neutral = only[name]
            elif name in known:
                continue
            else:
                neutral = self.neutral.get(name)
            if value is None or value in ([], {}, ""):
                continue
            if neutral is not None:
                if not any(_same(value, one) for one in neutral):
                    changing.append(name)
            elif value != False and not self._is_note(name):  # noqa: E712  # 0 turns a field off as well
                unknown.append(name)
        return changing, unknown

    def _is_note(self, name: str) -> bool:
        return name in self.harmless or name.startswith(self.prefixes) or name.endswith(self.suffixes)


# A token's id is of the part that lays prompts out, which reads those that it needs.
CONFIG = FieldPolicy(_HARMLESS, _HARMLESS_PREFIXES, ("_token_id",), _NEUTRAL)


def check_fields(
    raw: Mapping[str, Any], part: str, known: Collection[str], only: Mapping[str, tuple[Any, ...]] | None = None
) -> None:
    """Goes through the fields of one part of a config.json.

    Args:
        raw: the fields.
        part: what they are of, for a warning.
        known: names that the part reads.
        only: further fields of which the part computes with these values alone.

    Raises:
        UnsupportedField: a field would change what is computed.
    """
    changing, unknown = CONFIG.unread(raw, known, only)
    for name in changing:
        allowed = {**_NEUTRAL, **(only or {})}[name]
        wanted = repr(allowed[0]) if allowed else "to leave it out"
        raise UnsupportedField(f"{name}={short(raw[name])} is not supported; supported is {wanted}")
    if unknown:
        warnings.warn(f"config.json: fields of the {part} that nothing here reads: {listed(unknown)}", stacklevel=2)


def listed(names: Collection[str]) -> str:
    """The first of some names, for a message."""
    return ", ".join(name[:60] for name in list(names)[:8]) + (", ..." if len(names) > 8 else "")


def short(value: Any) -> str:
    """A value for a message, at most so long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_numbers(config: Any, positive: Collection[str]) -> None:
    """Refuses numbers of a dataclass that nothing can be computed with.

    Raises:
        ValueError: a number is NaN or infinite, or one that must be above 0 is not.
    """
    for name, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, which is not a number to compute with")
    for name in positive:
        value = getattr(config, name)
        if isinstance(value, int | float) and not 0 < value < 1e30:
            raise ValueError(f"{name} is {short(value)}; supported: above 0")


def _same(value: Any, wanted: Any) -> bool:
    """Equal, and both or neither truth values: 1 is not True."""
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
