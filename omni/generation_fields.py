"""Fields of generation_config.json that nothing here reads: one that would change a reply is named in a warning."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from encoders.config_fields import FieldPolicy, listed, short

# How replies are counted, returned and computed: none says which token comes next. Lengths are options of a call here,
# and what only beams heed goes with `num_beams`.
_HARMLESS = frozenset(
    """assistant_confidence_threshold assistant_early_exit assistant_lookbehind bos_token_id cache_config
    cache_implementation compile_config decoder_start_token_id disable_compile diversity_penalty early_stopping
    is_assistant length_penalty low_memory max_length max_matching_ngram_size max_new_tokens num_assistant_tokens
    num_assistant_tokens_schedule num_beam_groups output_attentions output_hidden_states output_logits output_scores
    pad_token_id prefill_chunk_size prompt_lookup_num_tokens remove_invalid_values renormalize_logits
    return_dict_in_generate return_legacy_cache target_lookbehind transformers_version use_cache""".split()
)
# Fields that would change a reply, with the values that do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        "encoder_repetition_penalty guidance_scale num_beams num_return_sequences repetition_penalty".split(), (1,)
    ),
    **dict.fromkeys(
        """encoder_no_repeat_ngram_size frequency_penalty min_length min_new_tokens no_repeat_ngram_size penalty_alpha
        presence_penalty""".split(),
        (0,),
    ),
    **dict.fromkeys(
        """bad_words_ids begin_suppress_tokens constraints dola_layers exponential_decay_length_penalty
        force_words_ids forced_bos_token_id forced_decoder_ids forced_eos_token_id logit_bias max_time sequence_bias
        stop_strings suppress_tokens watermarking_config""".split(),
        (),
    ),
    "token_healing": (False,),
}
# The same of tokens that are sampled; the most likely token stays.
_NEUTRAL_OF_SAMPLING: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys("epsilon_cutoff eta_cutoff min_p".split(), (0,)),
    **dict.fromkeys("top_h typical_p".split(), (1,)),
}
# Fields of the speaking part, which is not loaded.
_PREFIXES = ("_", "talker_", "code2wav_", "token2wav_")
_SAMPLED = FieldPolicy(_HARMLESS, _PREFIXES, (), {**_NEUTRAL, **_NEUTRAL_OF_SAMPLING})
_GREEDY = FieldPolicy(_HARMLESS | _NEUTRAL_OF_SAMPLING.keys(), _PREFIXES, (), _NEUTRAL)


def warn_of_unread(raw: Mapping[str, Any], known: Collection[str], *, sampled: bool) -> None:
    """Warn of the fields of a generation_config.json that are not applied, and might be missed.

    Args:
        raw: the file's content.
        known: names of fields that are applied.
        sampled: whether tokens are sampled by default.
    """
    changing, unknown = (_SAMPLED if sampled else _GREEDY).unread(raw, known)
    if changing:
        named = listed([f"{name}={short(raw[name])}" for name in changing])
        warnings.warn(f"generation_config.json: fields that change replies, and are not applied: {named}", stacklevel=2)
    if unknown:
        warnings.warn(f"generation_config.json: fields that nothing here reads: {listed(unknown)}", stacklevel=2)
