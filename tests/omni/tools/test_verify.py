"""`omni verify`: records that do not depend on when they are made, comparisons that find what differs and no more, and
refusals of what is no record."""

import base64
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from safetensors.numpy import load, save

import omni
from omni.cli import main
from omni.generation.engine import Prompt
from omni.prompt.messages import parse
from omni.tools.verify import check as verify
from omni.tools.verify import reference
from omni.tools.verify.avi import write_avi
from omni.tools.verify.cases import Case, conversations, default_cases, digest, video, waveform
from omni.tools.verify.check import Result
from omni.tools.verify.compare import by_stage, compare, first_stage
from omni.tools.verify.measures import distance
from omni.tools.verify.report import table, to_dict
from omni.tools.verify.stages import STAGES, Tolerances
from omni.tools.verify.storage import read_record
from omni.tools.verify.trace import trace
from processors import load_audio, load_video
from tests.golden import asr, media, text_families
from tests.golden.load import assert_stages, relative_error

CASES = ("text", "image")
DIGEST = "190be9f1f2ce290bbdc8f421a2ce4a718e924237e0dbd7f8b68d8971d50fe8e5"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, model, tiny_checkpoint):
    """Runs `omni verify ...` in an empty folder, with a few of the default cases: exit code, stdout, stderr.

    The tiny checkpoint is loaded already.
    """
    monkeypatch.chdir(tmp_path)
    load, path = omni.load, str(tiny_checkpoint)
    monkeypatch.setattr(omni, "load", lambda name, **options: model if name == path else load(name, **options))
    monkeypatch.setattr(verify, "default_cases", few)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["omni", "verify", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def few(*arguments, **options):
    cases = default_cases(*arguments, **options)
    return [case for case in cases if case.name in CASES] or cases


@pytest.fixture(scope="module")
def record(tiny_checkpoint, tmp_path_factory):
    directory = tmp_path_factory.mktemp("record") / "golden"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "default_cases", few)
        patch.setattr("sys.argv", ["omni", "verify", str(tiny_checkpoint), "--record", str(directory)])
        with pytest.raises(SystemExit, match="0"):
            main()
    return directory


@pytest.fixture
def copy(record, tmp_path):
    shutil.copytree(record, tmp_path / "copy")
    return tmp_path / "copy"


def edited(copy, **changes):
    """The manifest with some fields changed."""
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | changes))


# --- Records ----------------------------------------------------------------------------------------------------------


def test_recorded_again_it_is_the_same_to_the_last_byte(run, record, tiny_checkpoint, tmp_path):
    code, out, _ = run(tiny_checkpoint, "--record", "again")
    assert code == 0 and "2 cases recorded" in out
    files = sorted(path.relative_to(record) for path in record.rglob("*") if path.is_file())
    assert [str(file) for file in files] == ["cases/image.safetensors", "cases/text.safetensors", "manifest.json"]
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (record / file).read_bytes(), file
    assert str(tiny_checkpoint.parent) not in (record / "manifest.json").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]


def test_the_stages_are_those_that_the_model_gives(record, model):
    arrays = read_record(record).load("image")
    (case,) = [case for case in conversations() if case.name == "image"]
    inputs = model.prepare(case.messages)
    wanted = {"vision": inputs.media[0].tokens, "deepstack": inputs.media[0].deepstack, "token_ids": inputs.token_ids}
    wanted |= {"positions": inputs.position_ids, "logits": model.logits(inputs)[arrays["logits/rows"]]}
    assert_stages("image", {name: arrays.get(name, arrays.get(f"{name}/0")) for name in wanted}, wanted)
    reply = model.generate(case.messages, max_new_tokens=len(arrays["greedy"]), temperature=0)
    assert reply.token_ids == arrays["greedy"].tolist()[: len(reply.token_ids)]


def test_a_record_is_not_overwritten_unasked(run, copy, tiny_checkpoint, tmp_path):
    before = (copy / "manifest.json").read_bytes()
    code, _, err = run(tiny_checkpoint, "--record", "copy")
    assert code == 2 and "--overwrite replaces it" in err and (copy / "manifest.json").read_bytes() == before
    (copy / "cases" / "old.safetensors").write_bytes(b"")
    assert run(tiny_checkpoint, "--record", "copy", "--overwrite")[0] == 0
    assert not (copy / "cases" / "old.safetensors").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    code, _, err = run(tiny_checkpoint, "--record", "other", "--overwrite")
    assert code == 2 and "holds no record" in err and (tmp_path / "other" / "notes.txt").exists()


def test_nothing_is_left_of_a_record_that_fails(run, monkeypatch, tiny_checkpoint, tmp_path):
    def fails(model, messages, **_):
        if messages[-1]["content"][0] != "Count"[0]:
            raise omni.InputError("bad_part", "no")
        return trace(model, messages)

    monkeypatch.setattr("omni.tools.verify.trace.trace", fails)
    code, _, err = run(tiny_checkpoint, "--record", "half")
    assert code == 2 and "case image: no" in err and list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_not_recorded(run, monkeypatch, tiny_checkpoint):
    monkeypatch.setattr(
        "omni.tools.verify.trace.trace", lambda *_, **__: {"hidden/norm": np.asarray([1, np.nan], np.float32)}
    )
    code, _, err = run(tiny_checkpoint, "--record", "nan")
    assert code == 2 and "case text: hidden/norm holds NaN or infinite numbers" in err


# --- Against a record -------------------------------------------------------------------------------------------------


def test_the_same_model_gives_the_same(run, record, tiny_checkpoint):
    code, out, err = run(tiny_checkpoint, "--against", record, "--json", "out.json")
    assert code == 0 and "2 cases, every stage within its tolerance" in out and not err
    told = json.loads(Path("out.json").read_text())
    assert told["good"] is True and told["first"] is None and told["notes"] == []
    assert {row["stage"] for row in told["stages"]} == set(STAGES) - {"waveform", "mel", "clock", "audio"}
    assert {row["verdict"] for row in told["stages"]} == {"same"}


def tampered(copy, name, change):
    """The record of the image with an array changed."""
    file = copy / "cases" / "image.safetensors"
    arrays = load(file.read_bytes())
    arrays[name] = change(arrays.get(name))
    file.write_bytes(save(arrays))
    cases = json.loads((copy / "manifest.json").read_text())["cases"]
    edited(copy, cases=cases | {"image": hashlib.sha256(file.read_bytes()).hexdigest()})


@pytest.mark.parametrize(("name", "follows"), [("vision/0", 1), ("hidden/02", 0), ("embedded", 1), ("logits", 0)])
def test_what_is_off_by_more_than_its_tolerance_is_named(run, copy, tiny_checkpoint, name, follows):
    """`follows`: whether later stages are off as well, since what they were recorded from is not theirs any more."""
    stage = name.partition("/")[0]
    tampered(copy, name, lambda array: array * np.float32(1.001))
    code, out, _ = run(tiny_checkpoint, "--against", "copy", "--json", "out.json")
    assert code == 1 and f"the first stage that differs: {stage}, in 1 of 2 cases" in out
    assert json.loads(Path("out.json").read_text())["first"] == stage
    assert run(tiny_checkpoint, "--against", "copy", "--tolerance", f"{stage}=1e-2")[0] == follows
    assert run(tiny_checkpoint, "--against", "copy", "--tolerance", "1e-2")[0] == 0


def test_a_stage_is_judged_by_recorded_inputs(run, copy, tiny_checkpoint):
    """Other pixels in the record: what follows inherits the difference, and is right for the pixels recorded."""
    tampered(copy, "pixels/0", lambda array: array[::-1].copy())
    code, _, _ = run(tiny_checkpoint, "--against", "copy", "--json", "out.json")
    rows = {row["stage"]: row["verdict"] for row in json.loads(Path("out.json").read_text())["stages"]}
    # The record's tokens are those of its old pixels, so the tower is wrong for these.
    assert code == 1 and rows["pixels"] == rows["vision"] == "differs" and rows["hidden"] == "same"


def test_bfloat16_of_a_dense_model_is_near_its_float32(run, tmp_path):
    directory = text_families.write_checkpoint(tmp_path / "qwen3", "qwen3")
    assert run(directory, "--record", "r")[0] == 0
    code, out, err = run(directory, "--against", "r", "--dtype", "bfloat16")
    assert code == 0 and "(dtype: float32 in the record, bfloat16 here)" in err and "differs" not in out
    # As float32 these would be far off.
    assert run(directory, "--against", "r", "--dtype", "bfloat16", "--tolerance", "1e-4")[0] == 1


def test_other_weights_are_told_of_and_differ(run, tmp_path):
    first = text_families.write_checkpoint(tmp_path / "one", "qwen3")
    assert run(first, "--record", "r")[0] == 0
    shutil.copytree(first, tmp_path / "two")
    weights = bytearray((tmp_path / "two" / "model.safetensors").read_bytes())
    weights[-64:] = bytes(64)
    (tmp_path / "two" / "model.safetensors").write_bytes(weights)
    code, _, err = run(tmp_path / "two", "--against", "r")
    assert code == 1 and "weights_sha256: differs" in err


def test_a_hybrid_decoder_without_a_tokenizer(run, tmp_path):
    directory = text_families.write_checkpoint(tmp_path / "next", "qwen3_next")
    assert run(directory, "--record", "r")[0] == 0 and list(read_record(tmp_path / "r").cases) == ["ids", "one_id"]
    assert run(directory, "--against", "r")[0] == 0
    loaded = omni.load(directory)
    ids = np.arange(40, dtype=np.int32)
    states = loaded.engine.states(Prompt(ids, np.broadcast_to(ids.astype(np.float32), (3, 40)), 40.0))
    assert len(states.layers) == loaded.config.text.num_hidden_layers
    assert relative_error(loaded.engine.scores(states.normed), loaded.logits(ids)) < 1e-5
    # Layers in their order: neighbours are nearer than others, and the last is the one that is normed.
    steps = np.linalg.norm(np.diff(states.layers, axis=0), axis=-1).mean(-1)
    assert steps.max() < np.linalg.norm(states.layers[-1] - states.layers[0], axis=-1).mean() * 2
    shape = states.layers[-1] / np.sqrt((states.layers[-1] ** 2).mean(-1, keepdims=True) + 1e-6)
    scale = 1 + np.asarray(loaded.parts.text.norm.weight[...])
    assert relative_error(states.normed, shape * scale) < 1e-5


def test_states_are_those_of_the_reference(model, golden):
    states = model.engine.states(model.prepare(golden.case("image").with_media()).to_prompt())
    assert relative_error(states.embedded, golden.stages["text/embedded"]) < 1e-5
    for layer in (3, 4):  # the reference's are from before deepstack is added, which the first three have
        assert relative_error(states.layers[layer], golden.stages[f"text/layer{layer}"]) < 1e-5
    assert relative_error(states.layers[0], golden.stages["text/layer0"]) > 1e-3
    assert relative_error(states.normed, golden.stages["text/norm"]) < 1e-5


def test_a_speech_recogniser(run, tmp_path):
    directory = asr.write_checkpoint(tmp_path / "asr", "hf")
    assert run(directory, "--record", "r")[0] == 0
    assert list(read_record(tmp_path / "r").cases) == ["speech", "speech_short", "speech_context"]
    code, out, _ = run(directory, "--against", "r")
    assert code == 0 and "audio" in out and "vision" not in out


# --- A user's conversations -------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """A file of conversations, an image beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    PIL.Image.fromarray(media.image("small")).save(folder / "small.png")
    uri = "data:image/png;base64," + base64.b64encode((folder / "small.png").read_bytes()).decode()
    ask = [{"type": "image", "image": "small.png"}, {"type": "text", "text": "What is this?"}]
    lines = [[{"role": "user", "content": ask}], [{"role": "user", "content": [{"type": "image", "image": uri}, "?"]}]]
    (folder / "mine.jsonl").write_text("".join(json.dumps({"messages": line}) + "\n" for line in lines))
    return folder


def test_own_conversations_lie_in_the_record(run, tiny_checkpoint, own):
    assert run(tiny_checkpoint, "--record", "r", "--data", own / "mine.jsonl")[0] == 0
    with zipfile.ZipFile("mine.zip", "w") as archive:
        for file in own.iterdir():
            archive.write(file, file.name)
    assert run(tiny_checkpoint, "--record", "z", "--data", "mine.zip")[0] == 0
    shutil.rmtree(own)
    for name in ("r", "z"):
        code, out, _ = run(tiny_checkpoint, "--against", name)
        assert code == 0 and "2 cases, every stage within its tolerance" in out


def test_a_case_that_cannot_be_run_any_more(run, tiny_checkpoint, own, tmp_path):
    assert run(tiny_checkpoint, "--record", "r", "--data", own / "mine.jsonl")[0] == 0
    (kept,) = (tmp_path / "r" / "media").iterdir()
    kept.write_bytes(b"no image")
    code, out, err = run(tiny_checkpoint, "--against", "r")
    assert code == 1 and "0001: " in err and "the first stage that differs: pixels, in 1 of 2 cases" in out


def test_own_conversations_that_cannot_be_read_are_refused(run, tiny_checkpoint, own, tmp_path):
    (own / "small.png").unlink()
    code, _, err = run(tiny_checkpoint, "--record", "r", "--data", own / "mine.jsonl")
    assert code == 2 and "case 0001: " in err and not (tmp_path / "r").exists()


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda c: shutil.rmtree(c), "holds no record"),
        (lambda c: (c / "manifest.json").unlink(), "holds no record"),
        (lambda c: (c / "manifest.json").write_text("{"), "manifest.json is not JSON"),
        (lambda c: (c / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json is not JSON"),
        (lambda c: (c / "manifest.json").write_text("[]"), "its format is"),
        (lambda c: edited(c, format="omni-verify-0"), "its format is 'omni-verify-0'"),
        (lambda c: edited(c, cases={}), "lacks or garbles cases"),
        (lambda c: edited(c, cases={"../../x": "0"}), "lacks or garbles cases"),
        (lambda c: edited(c, cases=[]), "lacks or garbles cases"),
        (lambda c: edited(c, model=None), "lacks or garbles model"),
        (lambda c: edited(c, model={}), "does not tell the dtype"),
        (lambda c: edited(c, data="other"), "does not say what was asked"),
        (lambda c: edited(c, data="own"), "cannot be read"),
        (lambda c: edited(c, data_digest="0"), "other default conversations"),
        (lambda c: edited(c, cases={"nothing": "0"}), "names cases that it does not hold: nothing"),
        (lambda c: (c / "cases" / "image.safetensors").unlink(), "case image cannot be read"),
        (lambda c: (c / "cases" / "image.safetensors").write_bytes(b"x" * 99), "case image is damaged"),
        (lambda c: tampered(c, "smell/0", lambda _: np.zeros(3, np.float32)), "stages that this version"),
    ],
)
def test_what_is_no_record_is_refused(run, copy, tiny_checkpoint, break_it, sentence):
    break_it(copy)
    code, out, err = run(tiny_checkpoint, "--against", "copy")
    assert code == 2 and sentence in err and not out
    assert len(err.strip().splitlines()) == 1 and len(err) < 500


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give --record to write a record"),
        (["--against", "copy", "--record", "r"], "no --record and no --data beside it"),
        (["--against", "copy", "--data", "d.jsonl"], "no --record and no --data beside it"),
        (["--against", "copy", "--tolerance", "much"], "a tolerance is a number of 0 or more, got 'much'"),
        (["--against", "copy", "--tolerance", "nan"], "got 'nan'"),
        (["--against", "copy", "--tolerance", "logits=-1"], "got '-1'"),
        (["--against", "copy", "--tolerance", "smell=1"], "no stage is called 'smell'"),
        (["--record", "r", "--data", "absent.jsonl"], "absent.jsonl cannot be read"),
    ],
)
def test_options_that_make_no_sense(run, copy, tiny_checkpoint, options, sentence):
    code, _, err = run(tiny_checkpoint, *options)
    assert code == 2 and sentence in err and len(err.strip().splitlines()) == 1


def test_without_transformers_the_comparison_with_it_is_refused(run, monkeypatch, tiny_checkpoint):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(reference, "importlib", SimpleNamespace(import_module=absent))
    code, _, err = run(tiny_checkpoint, "--against", "transformers")
    assert code == 2 and "transformers cannot be imported: torch is missing" in err


# --- Comparisons ------------------------------------------------------------------------------------------------------


def test_distances():
    wanted = np.asarray([[3.0, 0.0], [0.0, 4.0]], np.float32)
    far = distance(wanted + np.asarray([[0, 0.3], [0, 0]], np.float32), wanted)
    assert far.relative == pytest.approx(0.06) and far.largest == pytest.approx(0.3) and far.unequal == 1
    assert far.median == pytest.approx(0.05) and far.cosine == pytest.approx(1 / np.sqrt(1 + 0.09 / 25))
    assert distance(wanted, wanted).relative == 0 and distance(wanted[:1], wanted).relative == np.inf
    assert distance(wanted, wanted * 0).relative == np.inf and distance(wanted * 0, wanted * 0).relative == 0
    for odd in (np.nan, np.inf):
        assert distance(np.where(wanted > 3, odd, wanted), wanted).relative == np.inf
    assert distance(np.uint8([0, 255]), np.uint8([255, 0])).largest == 255
    ids = np.int32([1, 2])
    assert distance(np.int32([1, 3]), ids).unequal == 1


def test_verdicts():
    recorded = {"vision/0": np.ones((2, 3)), "hidden/00": np.ones((2, 3)), "logits": np.ones((2, 3))}
    allowed = Tolerances({"vision": 0.1, "hidden": 0.1, "logits": 0.1})
    off = {name: array * 2 for name, array in recorded.items()}

    def verdicts(ours, alone):
        findings = compare("c", ours, recorded, allowed, alone)
        return {row.stage: row.verdict for row in by_stage(findings)}, first_stage(findings)

    right = recorded
    assert verdicts(right, right) == ({"vision": "same", "hidden": "same", "logits": "same"}, None)
    assert verdicts(off, right | {"hidden/00": off["hidden/00"]}) == (
        {"vision": "inherits", "hidden": "differs", "logits": "inherits"},
        "hidden",
    )
    # No stage is off by itself: the first where errors have added up is named.
    assert verdicts(right | {"logits": off["logits"]}, right)[1] == "logits"
    nearly = {name: array * 1.05 for name, array in recorded.items()}
    assert verdicts(nearly, right) == ({"vision": "ok", "hidden": "ok", "logits": "ok"}, None)
    absent = compare("c", {}, recorded, allowed, {})
    assert first_stage(absent) == "vision" and all(finding.is_beyond for finding in absent)


def test_answers_may_part_at_a_tie():
    recorded = {"greedy": np.int32([5, 6, 7, 8]), "greedy/deviations": np.float32([2, 2, 2, 2])}
    allowed = Tolerances({"logits": 1e-3})

    def first(ours, margins):
        told = recorded | {"greedy/margins": np.float32(margins)}
        return first_stage(compare("c", {"greedy": np.int32(ours)}, told, allowed))

    assert first([5, 6, 7, 8], [1, 1, 1, 1]) is None
    assert first([5, 6, 9, 9], [1, 1, 0.001, 1]) is None  # after a tie anything may come
    assert first([5, 6, 9, 9], [1, 1, 0.1, 1]) == "greedy"
    assert first([5, 9, 9, 9], [1, 1, 0.001, 1]) == "greedy"
    assert first([5, 6], [1, 1, 1, 1]) == "greedy"


def test_what_is_infinitely_far_off_is_null_in_json():
    findings = compare("c", {"vision/0": np.ones(3)}, {"vision/0": np.ones(4)}, Tolerances({}))
    result = Result(findings, {}, [], Tolerances({}))
    told = json.loads(json.dumps(to_dict(result, "r", "m"), allow_nan=False))
    assert told["first"] == "vision" and told["arrays"][0]["relative"] is None
    assert "| vision | differs |   inf |" in table(result)


# --- Default conversations --------------------------------------------------------------------------------------------


def test_default_conversations_do_not_change_unseen():
    """Records are of these: another digest needs another record of every user."""
    assert digest(list(conversations())) == DIGEST
    names = [case.name for case in conversations()]
    assert len(set(names)) == len(names)
    for case in conversations():
        shown = parse(case.messages).media
        kinds = {type(one).__name__.lower() for one in shown}
        kinds |= {"audio" for one in shown if getattr(one, "audio", False) is not False}
        assert kinds == set(case.kinds), case.name


def test_the_digest_sees_every_sample_and_option():
    def of(**options):
        part = {"type": "audio", "audio": np.int16([1, 2, 3]), "sampling_rate": 8000} | options
        return digest([Case("c", [{"role": "user", "content": [part]}])])

    others = [of(audio=np.int16([1, 2, 4])), of(sampling_rate=8001), of(audio=np.int32([1, 2, 3])), of(type="video")]
    assert len({of(), *others}) == 5 and of() == of()


def test_avi_files_hold_what_is_written():
    frames, samples = video(7, 21, 33), waveform(0.9, 22_050, 3)
    file = write_avi(frames, 5, samples, 22_050)
    np.testing.assert_array_equal(load_video(file, fps=5), frames[:6])  # whole pairs of frames
    np.testing.assert_array_equal(load_audio(file, target_rate=22_050), samples.astype(np.float32) / 32768)
