"""Modules under the names that they had in 0.1: each imports the module of today, with a DeprecationWarning."""

import sys

from processors._moved import MovedModules

MOVED = {
    "omni.completeness": "omni.prompt.completeness",
    "omni.config_file": "omni.checkpoint.config_file",
    "omni.directory": "omni.checkpoint.directory",
    "omni.drawing": "omni.tools.drawing",
    "omni.embedding": "omni.media.embedding",
    "omni.encoding": "omni.media.encoder",
    "omni.evaluation": "omni.tools.evaluate",
    "omni.fingerprint": "omni.bulk.fingerprint",
    "omni.generation.prompt": "omni.prompt.sequence",
    "omni.inputs": "omni.prompt.inputs",
    "omni.inspection": "omni.tools.inspect",
    "omni.interruptible": "omni.checkpoint.interruptible",
    "omni.json_file": "omni.checkpoint.json_file",
    "omni.layout": "omni.prompt.layout",
    "omni.layout_stamped": "omni.prompt.layout_timestamps",
    "omni.media_cache": "omni.media.cache",
    "omni.messages": "omni.prompt.messages",
    "omni.parts": "omni.prompt.parts",
    "omni.plain": "omni.prompt.plain",
    "omni.prompt_builder": "omni.prompt.builder",
    "omni.record_media": "omni.prompt.record_media",
    "omni.records": "omni.prompt.records",
    "omni.reply": "omni.generation.reply",
    "omni.safetensors_file": "omni.checkpoint.safetensors",
    "omni.sandbox": "omni.prompt.sandbox",
    "omni.sandbox_compiler": "omni.prompt.sandbox_compiler",
    "omni.sandbox_rules": "omni.prompt.sandbox_rules",
    "omni.saving": "omni.checkpoint.save",
    "omni.sharding": "omni.checkpoint.sharding",
    "omni.spoken": "omni.prompt.token_reuse",
    "omni.summary": "omni.tools.summary",
    "omni.template": "omni.prompt.template",
    "omni.template_program": "omni.prompt.template_program",
    "omni.tokenizer": "omni.prompt.tokenizer",
    "omni.tokenizer_files": "omni.prompt.tokenizer_files",
    "omni.training.progress": "omni.training.state",
    "omni.training.trained": "omni.training.parameters",
    "omni.transcription": "omni.tasks.transcribe",
    "omni.vectors": "omni.tasks.embed",
}


def install() -> None:
    """Let the old names be imported."""
    sys.meta_path.append(MovedModules(MOVED))
