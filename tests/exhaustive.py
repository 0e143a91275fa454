"""Tests that `make test` leaves to `make test-exhaustive`: what another has shown, on one more family or size.

Each line is a regular expression, searched for in a test's id. Whoever changes what one of them is about runs it by its
file, as `pytest -m "" tests/omni/test_vl.py`.
"""

import re

PATTERNS = {
    "what `make check` runs too": (
        r"reliability/test_corpus\.py",
        r"reliability/test_invariance\.py",
        r"reliability/test_fuzz\.py",
        r"reliability/test_attacks\.py::test_no_words_become",
    ),
    "families whose layers all occur in another": (
        r"\[(vl_moe|qwen3_5|qwen3_5_moe)\b",
        r"test_text_families\w*\.py.*(qwen3_tied|qwen3_moe_\w+|qwen3_next_uneven|qwen3_5\w*_text)",
        r"test_text_families_hybrid\.py::test_(any_tensors|files_may_hold)",
        r"test_asr\.py.*\[hf\b",
        r"test_asr\.py::test_greedy_replies_together",
        r"test_decoder\.py.*\[(sparse|hybrid)\b",
        r"test_hybrid\.py::test_(a_checkpoint_policy|layers_one_by_one|chunks_without)\w*\[hybrid\b",
        r"test_hybrid\.py::test_a_checkpoint_policy\w*\[linear",
        r"test_quantize\.py.*\[(qwen3_next|qwen3_5_text|qwen3_tied|qwen3_moe)\]",
        r"test_verify\.py::test_(a_hybrid_decoder|a_speech_recogniser|bfloat16_of_a_dense)",
    ),
    "meshes, of which the whole of Qwen3-Omni has shown one": (
        r"test_mesh\.py::test_a_mesh_changes_no_number\[(qwen3|vl_moe|asr)",
        r"test_mesh\.py::test_two_processes",
    ),
    "sizes and settings between others": (
        r"test_attention\.py::test_(in_blocks|one_query)\[.*\b(16|5|7|8)\b",
        r"test_gated_delta\.py::test_forms_agree_with_float64\[(200|4096)\]",
        r"test_engine\.py::test_\w+\[large\]",
        r"test_sampling\.py::test_frequencies_over_a_large_vocabulary\[how[12]\]",
        r"test_transcribe\.py::test_(a_list_gives|how_much_is_written)",
        r"test_scheduler\.py::test_what_can_never_fit",
        r"test_serving\.py::test_sixteen_threads",
        r"test_response_format\.py::test_rows_beside",
        r"test_template\.py::test_no_text_becomes_a_control_token\[stripping\]",
        r"test_save\.py::test_every_form_of_a_directory\[options[12]\]",
        r"test_load\.py::test_every_form_of_a_directory\[options[1-9]\]",
        r"test_adapters\.py::test_weights_are_those.*\[(next|qwen3_5|vl|one_of_the_experts)\]",
    ),
    "faults in the same stage as another": (
        r"test_verify_faults\.py.*\[(experts_not_normalised|rope_theta|channels_swapped|norm_epsilon|scores_in_bfloat16|table_in_bfloat16"
        r"|cached_steps_elsewhere|vision_rope_theta|patches_row_by_row|clock_by_first_frames|mel_floor"
        r"|vision_positions_in_bfloat16|audio_convolution_gelu|deepstack_level_missing)\]",
    ),
    "code of documents, which .ci/run runs beside the site": (r"test_docs\.py::test_code_runs",),
    "training, of which another test takes a step": (
        r"test_training\.py::test_(a_small_model_learns|adapters_change|batches_of_a_shape|a_model_learns)",
        r"test_training\.py::test_(media_are_encoded|a_batch_is_read.*by towers)",
        r"test_text_families_hybrid\.py::test_the_gradient",
        r"test_hybrid\.py::test_gradients_agree_with_finite",
        r"training/test_gradients\.py.*\[video_sound\]",
        r"test_written\.py::test_a_training_run_goes_on\[lora\]",
        r"test_cli\.py::test_train$",
    ),
    "servers of several processes, and ones that are killed": (
        r"test_workers\.py::test_(two_processes|a_model_that_no_process)",
        r"test_server_faults\.py",
    ),
    "stages that the runner treats like others": (r"benchmarks/test_stages\.py.*\[(video|start|vision)",),
}
_ALL = re.compile("|".join(pattern for patterns in PATTERNS.values() for pattern in patterns))


def is_exhaustive(test: str) -> bool:
    """Whether a test, by its id, is left to `make test-exhaustive`."""
    return _ALL.search(test) is not None
