"""What users get wrong, run as they run it, without the tests' type checks: always an InputError in plain words."""

import ast
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import omni

ROOT = Path(__file__).parents[2]

# Expression -> code. `m` is a model, `ask` a conversation, `e` the embedding of a picture of 64 x 96 pixels.
CASES = {
    # options
    "m.generate(ask, max_new_tokens=0)": "bad_max_new_tokens",
    "m.generate(ask, max_new_tokens=1.5)": "bad_max_new_tokens",
    "m.generate(ask, max_new_tokens='many')": "bad_max_new_tokens",
    "m.generate(ask, max_new_tokens=None)": "bad_max_new_tokens",
    "m.generate(ask, max_new_tokens=True)": "bad_max_new_tokens",
    "m.generate(ask, temperature=-0.1)": "bad_temperature",
    "m.generate(ask, temperature=float('nan'))": "bad_temperature",
    "m.generate(ask, temperature=float('inf'))": "bad_temperature",
    "m.generate(ask, temperature='hot')": "bad_temperature",
    "m.generate(ask, temperature=object())": "bad_temperature",
    "m.generate(ask, top_p=0)": "bad_top_p",
    "m.generate(ask, top_p=1.01)": "bad_top_p",
    "m.generate(ask, top_p='0.9')": "bad_top_p",
    "m.generate(ask, top_k=-1)": "bad_top_k",
    "m.generate(ask, top_k=2.5)": "bad_top_k",
    "m.generate(ask, top_k=float('nan'))": "bad_top_k",
    "m.generate(ask, top_k=[5])": "bad_top_k",
    "m.generate(ask, seed=-1)": "bad_seed",
    "m.generate(ask, seed=1 << 32)": "bad_seed",
    "m.generate(ask, seed=1.5)": "bad_seed",
    "m.generate(ask, seed=[1.5])": "bad_seed",
    "m.generate(ask, seed='a')": "bad_seed",
    "m.generate(ask, seed=[])": "bad_seed",
    "m.generate([ask, ask], seed=[[1], [1, 2]])": "bad_seed",
    "m.generate([ask, ask], seed=[1])": "bad_seed",
    "m.generate(ask, stop=5)": "bad_stop",
    "m.generate(ask, stop=None)": "bad_stop",
    "m.generate(ask, stop=['a', 5])": "bad_stop",
    "m.generate(ask, batch_size=0)": "bad_batch_size",
    "m.generate(ask, batch_size='a')": "bad_batch_size",
    "m.stream(ask, temperature=-1)": "bad_temperature",
    "m.chat(temperature=-1).send('Hi')": "bad_temperature",
    "m.generate(ask, presence_penalty='x')": "bad_presence_penalty",
    "m.generate(ask, frequency_penalty=None)": "bad_frequency_penalty",
    "m.generate(ask, repetition_penalty='x')": "bad_repetition_penalty",
    "m.generate(ask, min_p='x')": "bad_min_p",
    "m.generate(ask, logit_bias=[1])": "bad_logit_bias",
    "m.generate(ask, logit_bias={'a': 1})": "bad_logit_bias",
    "m.generate(ask, logit_bias={10**9: 1})": "bad_logit_bias",
    "m.generate(ask, banned_tokens='ab')": "bad_banned_tokens",
    "m.generate(ask, banned_tokens=[10**9])": "bad_banned_tokens",
    "m.generate(ask, banned_tokens=range(10**5))": "bad_banned_tokens",
    "m.generate(ask, stop_tokens=[1.5])": "bad_stop_tokens",
    "m.generate(ask, stop_tokens=7)": "bad_stop_tokens",
    "m.generate(ask, logprobs='x')": "bad_logprobs",
    "m.generate(ask, {})": "bad_options",
    "m.chat().send('Hi', max_new_tokens=-1)": "bad_max_new_tokens",
    "m.encode([picture], batch_size=0)": "bad_batch_size",
    # conversations
    "m.generate([])": "bad_messages",
    "m.generate([[]])": "bad_messages",
    "m.generate('Hi')": "bad_messages",
    "m.generate(None)": "bad_messages",
    "m.generate({'role': 'user', 'content': 'Hi'})": "bad_messages",
    "m.generate(iter(ask))": "bad_messages",
    "m.generate([None])": "bad_messages",
    "m.generate([1.5])": "bad_messages",
    "m.generate([{'role': 'user'}])": "bad_content",
    "m.generate([{'role': 'robot', 'content': 'Hi'}])": "bad_role",
    "m.generate([{'role': object(), 'content': 'Hi'}])": "bad_role",
    "m.prepare('Hi')": "bad_messages",
    "m.prepare([ask])": "bad_messages",
    "m.generate(user({'type': 'image', 'image': object()}))": "media_unknown|image_unknown_format",
    "m.generate(user({'type': 'image', 'image': 'absent.png'}))": "source_not_found",
    "m.generate(user({'type': 'smell', 'smell': b''}))": "bad_part",
    "m.generate([{'role': 'user', 'content': '\\ud800'}])": "bad_text",
    "m.chat().send(5)": "bad_messages",
    "m.chat().send(None)": "bad_messages",
    "m.chat().send(b'Hi')": "bad_messages",
    "m.chat().send({'type': 'text', 'text': 'Hi'})": "bad_messages",
    "m.chat().send(['Hi'], picture)": "bad_messages",
    "m.chat().send('Hi', None)": "media_unknown",
    "m.chat(system=5).send('Hi')": "bad_content",
    # token ids
    "m.generate([-1])": "bad_token_ids",
    "m.generate([896])": "bad_token_ids",
    "m.generate([10 ** 30])": "bad_token_ids",
    "m.generate([1, 'a'])": "bad_token_ids",
    "m.generate([1, [2]])": "bad_token_ids",
    "m.generate([True])": "bad_token_ids",
    "m.generate(np.zeros(0, int))": "bad_token_ids",
    "m.generate(np.array(5))": "bad_token_ids",
    "m.generate(np.array([1.0]))": "bad_token_ids",
    "m.generate(np.zeros((1, 2, 3), int))": "bad_token_ids",
    "m.logits('Hi')": "bad_token_ids",
    "m.logits([])": "bad_token_ids",
    "m.logits([[1], [2, 3]])": "bad_token_ids",
    "m.logits([5] * 65537)": "too_many_tokens",
    # media
    "m.encode(None)": "media_unknown",
    "m.encode(object())": "media_unknown",
    "m.encode({'image': picture})": "media_unknown",
    "m.encode(iter([picture]))": "media_unknown",
    "m.encode('absent.jpg')": "source_not_found",
    "m.encode('.')": "source_not_a_file",
    "m.encode('a' * 5000)": "source_unreadable",
    "m.encode('file:///etc/hostname')": "source_scheme",
    "m.encode(b'')": "source_empty",
    "m.encode(b'neither picture nor sound')": "media_unknown",
    "m.encode('data:image/png;base64,!')": "source_bad_data_uri",
    "m.encode(np.zeros(16000, np.float32))": "audio_rate",
    "m.encode(np.zeros((8, 8, 3), np.float32))": "image_dtype",
    "m.encode(omni.Image(None))": "image_unknown_format",
    "m.encode(omni.Audio(None))": "audio_unknown_format",
    "m.encode(omni.Video(None))": "video_unknown_format",
    "m.encode(omni.Image(np.zeros((2, 2000, 3), np.uint8)))": "aspect_ratio",
    "eyes.encode(omni.Audio(np.zeros(16000, np.float32), 16000))": "part_not_loaded",
    "eyes.generate(ask)": "part_not_loaded|no_tokenizer",
    "eyes.logits([1, 2])": "part_not_loaded",
    "omni.Limits(source_bytes='1')": "bad_limits",
    "omni.Limits(image_pixels=None)": "bad_limits",
    "omni.Sources(folders=5)": "bad_sources",
    "omni.Sources(hosts=5)": "bad_sources",
    # embeddings
    "omni.Embedding('smell', rows)": "bad_embedding",
    "omni.Embedding('image', rows[0])": "bad_embedding",
    "omni.Embedding('image', rows.astype(int))": "bad_embedding",
    "omni.Embedding('image', rows, rows)": "bad_embedding",
    "omni.Embedding('image', rows, rows[None, :2])": "bad_embedding",
    "omni.Embedding('image', rows, None, (4, 6))": "bad_embedding",
    "m.generate(user(omni.Embedding('image', np.zeros((6, 8), np.float32), None, (1, 4, 6))))": "bad_embedding",
    "m.generate(user(omni.Embedding('image', e.tokens, e.deepstack[:2], (1, 4, 6))))": "bad_embedding",
    "m.generate(user(omni.Embedding('image', e.tokens, None, (1, 4, 6))))": "bad_embedding",
    "m.generate(user(omni.Embedding('image', e.tokens, e.deepstack, (1, 4, 4))))": "bad_embedding",
    "m.generate(user(omni.Embedding('image', e.tokens)))": "bad_embedding",
    "m.generate(user(omni.Embedding('audio', np.zeros((6, 8), np.float32))))": "bad_embedding",
    "omni.Embedding.load('absent')": "unreadable_embedding",
}

# Part, field and value of config.json that are refused.
SETTINGS = [
    ("text_config", "hidden_size", "64"),
    ("text_config", "hidden_size", 64.5),
    ("text_config", "hidden_size", [64]),
    ("text_config", "num_hidden_layers", True),
    ("text_config", "rms_norm_eps", "small"),
    ("text_config", "rms_norm_eps", {}),
    ("text_config", "norm_topk_prob", 1),
    ("text_config", "rope_theta", "far"),
    ("text_config", "rope_scaling", 5),
    ("text_config", "mlp_only_layers", 3),
    ("vision_config", "hidden_size", "64"),
    ("vision_config", "patch_size", 16.5),
    ("vision_config", "num_heads", [4]),
    ("vision_config", "deepstack_visual_indexes", 3),
    # No checkpoint has so many: to build them, if only abstractly, would take minutes.
    ("text_config", "num_hidden_layers", 10**12),
    ("text_config", "num_experts", 10**12),
    ("text_config", "vocab_size", 10**12),
    ("vision_config", "depth", 10**12),
    ("vision_config", "num_hidden_layers", 10**12),
    ("audio_config", "encoder_layers", 10**12),
    ("audio_config", "d_model", "64"),
    ("audio_config", "activation_function", 5),
    (None, "text_config", "Qwen3"),
    (None, "vision_config", [1]),
    (None, "image_token_id", "<image>"),
    (None, "position_id_per_seconds", "often"),
]

SCRIPT = """
import json, sys
import numpy as np, omni
m, eyes = omni.load(sys.argv[1]), omni.load(sys.argv[1], parts="vision")
ask = [{"role": "user", "content": "Hi"}]
picture, rows = np.zeros((64, 96, 3), np.uint8), np.zeros((6, 64), np.float32)
e = m.encode(picture)
def user(part):
    part = {"type": part.kind, part.kind: part} if isinstance(part, omni.Embedding) else part
    return [{"role": "user", "content": [part]}]
found = {}
for case in json.loads(sys.argv[2]):
    try:
        eval(case)
        found[case] = "accepted", ""
    except omni.InputError as error:
        found[case] = error.code, str(error)
    except BaseException as error:
        found[case] = type(error).__name__, str(error)
from pathlib import Path
from omni.loading import read_config
whole = json.loads((Path(sys.argv[1]) / "config.json").read_text())
for part, field, value in json.loads(sys.argv[3]):
    config = json.loads(json.dumps(whole))
    thinker = config["thinker_config"]
    (thinker[part] if part else thinker)[field] = value
    Path("config.json").write_text(json.dumps(config))
    try:
        read_config(Path())
        found[f"{part}.{field}={value}"] = "accepted", ""
    except omni.CheckpointError as error:
        found[f"{part}.{field}={value}"] = "refused", str(error)
    except BaseException as error:
        found[f"{part}.{field}={value}"] = type(error).__name__, str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tiny_checkpoint, tmp_path_factory):
    away = tmp_path_factory.mktemp("away")
    tables = [json.dumps(list(CASES)), json.dumps(SETTINGS)]
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tiny_checkpoint), *tables]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=away, env=env)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), (str(away), str(ROOT), str(Path.home()), str(tiny_checkpoint))


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(found, case):
    code, message = found[0][case]
    assert code in CASES[case].split("|"), message
    assert 0 < len(message) <= 500 and "\n" not in message
    assert " at 0x" not in message and not any(path in message for path in found[1])


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting[0]}.{setting[1]}={setting[2]}")
def test_a_setting_is_refused(found, setting):
    part, field, value = setting
    outcome, message = found[0][f"{part}.{field}={value}"]
    assert outcome == "refused", message
    assert message.startswith("config.json") and len(message) <= 500 and "\n" not in message


def test_an_input_error_is_a_value_error():
    error = omni.InputError("some_rule", "x" * 900)
    assert isinstance(error, ValueError) and error.code == "some_rule" and len(str(error)) == 500


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(omni.InputError("some_rule", "One sentence.")))
    assert (type(error), error.code, str(error)) == (omni.InputError, "some_rule", "One sentence.")
    error = omni.CheckpointError("It does not fit.", missing=["a", "b"], misshaped=["c: [1] in the file, [2] wanted"])
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.problems) == (error.code, error.problems)
    assert (str(copy), copy.missing, copy.unexpected, copy.misshaped) == (
        str(error),
        error.missing,
        error.unexpected,
        error.misshaped,
    )


def test_a_checkpoint_error_counts_everything_and_names_the_first():
    missing = [f"model.layers.{i}.mlp.gate_proj.weight" for i in range(500)]
    unexpected = [f"x.{i}" for i in range(300)]
    error = omni.CheckpointError("It does not fit.", code="weights_mismatch", missing=missing, unexpected=unexpected)
    message = str(error)
    assert len(message) <= 500 and "\n" not in message and error.code == "weights_mismatch"
    assert message.startswith("It does not fit.; missing (500): model.layers.0.mlp.gate_proj.weight, model.layers.1.")
    assert "; unexpected (300): x.0, x.1, " in message and message.endswith(", ...")
    assert error.problems == (
        *(f"missing: {name}" for name in missing),
        *(f"unexpected: {name}" for name in unexpected),
    )
    assert (error.missing, error.unexpected) == (tuple(missing), tuple(unexpected))


def test_a_checkpoint_error_of_one_problem_has_its_message():
    error = omni.CheckpointError("One\nsentence \ud800.", code="bad_config")
    assert str(error) == "One sentence \\ud800." and error.problems == ("One\nsentence \ud800.",)
    assert len(str(omni.CheckpointError("x" * 900, problems=["y" * 900]))) <= 500


def test_every_refusal_of_a_checkpoint_has_a_code_of_its_own():
    without = []
    for path in sorted((ROOT / "omni").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "CheckpointError":
                if "code" not in {keyword.arg for keyword in node.keywords}:
                    without.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not without
