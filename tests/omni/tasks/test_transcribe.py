"""Transcripts: languages, long recordings, lists, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import omni
from omni.cli import main
from omni.config import TranscriptForm
from omni.tasks.transcribe import Piece, Transcriber, Transcript, language_name, parse_reply
from tests.golden import asr, media
from tests.golden.load import DATA

SAMPLES = Path(__file__).parents[3] / "samples"
STEPS = 6
RECORD = json.loads((DATA / "asr.json").read_text("utf-8"))

pytestmark = pytest.mark.filterwarnings("ignore:the text from")


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return omni.load(asr.write_checkpoint(tmp_path_factory.mktemp("asr"), "hf"))


@pytest.fixture
def read(recogniser, monkeypatch):
    """What the decoder is given: a list of batches."""
    batches = []
    run = recogniser.generator.run
    monkeypatch.setattr(recogniser.generator, "run", lambda inputs, *more: batches.append(inputs) or run(inputs, *more))
    return batches


def clip(name):
    return omni.Audio(media.audio(name), media.RATE)


def form(recogniser) -> TranscriptForm:
    return recogniser.config.transcript


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("plain", {}),
        ("forced", {"language": "German"}),
        ("context", {"context": "Dashwood, Elinor"}),
        ("both", {"language": "en", "context": "Dashwood, Elinor"}),
    ],
)
def test_prompts_and_replies_are_the_references(recogniser, read, kind, options):
    found = recogniser.transcribe(clip("short"), max_new_tokens=STEPS, **options)
    assert read[0][0].token_ids.tolist() == RECORD["token_ids"][f"short/{kind}"]
    greedy = RECORD["greedy"][f"short/{kind}"][:STEPS]
    if recogniser.tokenizer.control_tokens["<|endoftext|>"] in greedy:
        greedy = []
    language = {"forced": "German", "both": "English"}.get(kind)
    told, text = parse_reply(recogniser.tokenizer.decode(greedy), form(recogniser), language)
    assert (found.text, found.language) == (text, told)
    (piece,) = found.pieces
    assert (piece.start, piece.end) == (0.0, len(media.audio("short")) / media.RATE)
    assert found.finish_reason == ("stop" if kind == "plain" else "length")


@pytest.mark.parametrize("reply", RECORD["replies"], ids=range(len(RECORD["replies"])))
def test_replies_are_read_as_the_reference_reads_them(recogniser, reply):
    wanted = (reply["language"], reply["transcription"])
    assert parse_reply(reply["raw"], form(recogniser), None) == wanted


def test_languages_by_name_and_code(recogniser):
    for code, name in RECORD["languages"].items():
        for given in (code, code.upper(), name, name.lower(), f" {name} "):
            assert language_name(given, form(recogniser)) == name


@pytest.mark.parametrize("language", ["Klingon", "xx", "", 7])
def test_other_languages_are_refused(recogniser, language):
    with pytest.raises(omni.InputError, match=r"language must be one of Arabic, .* or its code"):
        language_name(language, form(recogniser))


def test_a_checkpoint_may_list_its_own_languages(tmp_path):
    model = omni.load(asr.write_checkpoint(tmp_path, "thinker"))
    assert language_name("zh", form(model)) == "Chinese"
    with pytest.raises(omni.InputError, match="one of Chinese, English, German, or"):
        language_name("French", form(model))


def test_a_long_recording_is_its_stretches(recogniser, read):
    samples = media.audio("long")
    found = recogniser.transcribe(clip("long"), "English", stretch_seconds=20, max_new_tokens=STEPS, batch_size=4)
    edges = [round(piece.start * media.RATE) for piece in found.pieces] + [len(samples)]
    assert edges[0] == 0 and edges[1:] == [round(piece.end * media.RATE) for piece in found.pieces]
    assert 5 <= len(found.pieces) <= 9 and max(np.diff(edges)) <= 20 * media.RATE
    # A batch holds no more sound than one longest stretch.
    assert [len(batch) for batch in read] == [1] * len(found.pieces)
    alone = recogniser.transcribe(
        [omni.Audio(samples[a:b], media.RATE) for a, b in pairwise(edges)],
        "English",
        max_new_tokens=STEPS,
    )
    assert [piece.text for piece in found.pieces] == [one.text for one in alone]
    assert found.text == Transcript(found.pieces).text


def test_a_list_gives_a_list_in_order(recogniser, read):
    names = ["tenth", "short", "second", "tenth"]
    together = recogniser.transcribe([clip(name) for name in names], max_new_tokens=STEPS, batch_size=3)
    assert [len(batch) for batch in read] == [3, 1]
    assert together == [recogniser.transcribe(clip(name), max_new_tokens=STEPS) for name in names]
    assert recogniser.transcribe([]) == []


def test_how_much_is_written_does_not_depend_on_neighbours(recogniser):
    names = ["tenth", "window", "short"]
    together = recogniser.transcribe([clip(name) for name in names], "en")
    assert together == [recogniser.transcribe(clip(name), "en") for name in names]
    # Random weights seldom end, so the first was cut off at what a clip of its length may need.
    assert together[0].finish_reason == "length"


def test_a_bar_on_request(recogniser, capsys):
    recogniser.transcribe(clip("second"), max_new_tokens=1)
    assert capsys.readouterr().err == ""
    recogniser.transcribe(clip("second"), max_new_tokens=1, progress=True)
    assert "transcribing: 1" in capsys.readouterr().err


def test_damage_on_the_way_is_the_recordings_error(recogniser):
    """What comes after the first stretch may turn out damaged when text has been written already."""
    noise = np.random.RandomState(0).uniform(-0.5, 0.5, 70_000).astype(np.float32)
    noise[-1] = np.nan
    options = {"language": None, "context": "", "stretch_seconds": 1, "max_new_tokens": 1, "batch_size": 1}
    transcriber = Transcriber(recogniser, progress=False, **options)
    found = list(transcriber.run([omni.Audio(noise, media.RATE), clip("second")]))
    assert isinstance(found[0], omni.InputError) and found[0].code == "audio_not_finite"
    assert found[1].pieces[-1].end == 1.0 and len(found) == 2


def test_all_parts_are_needed(tmp_path):
    model = omni.load(asr.write_checkpoint(tmp_path, "hf"), parts="audio")
    with pytest.raises(omni.InputError, match="without its text part"):
        model.transcribe(clip("second"))


def test_files_bytes_and_sound_tracks(recogniser):
    path = SAMPLES / "speech.flac"
    by_path, by_bytes = (recogniser.transcribe(given, max_new_tokens=STEPS) for given in (path, path.read_bytes()))
    assert by_path == by_bytes
    film = recogniser.transcribe(omni.Video(SAMPLES / "bunny.mp4"), max_new_tokens=STEPS)
    assert film == recogniser.transcribe(str(SAMPLES / "bunny.mp4"), max_new_tokens=STEPS)
    assert film.pieces[-1].end > 1


def test_a_transcript_that_is_cut_off_says_so(recogniser):
    with pytest.warns(UserWarning, match=r"from 0\.0 to 1\.0 s was cut off after 1 tokens"):
        assert recogniser.transcribe(clip("second"), max_new_tokens=1).finish_reason == "length"


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["One.", "Two."], "One. Two."),
        (["你好。", "再见。"], "你好。再见。"),
        (["", "One.", "", "Two."], "One. Two."),
        (["안녕.", "잘 가."], "안녕. 잘 가."),
        ([], ""),
    ],
)
def test_pieces_are_joined_as_their_scripts_are_written(texts, whole):
    pieces = tuple(Piece(i, i + 1, text, None, "stop") for i, text in enumerate(texts))
    assert Transcript(pieces).text == whole


def test_languages_are_joined_where_they_change():
    heard = ["Chinese", None, "Chinese", "English", "Chinese"]
    pieces = tuple(Piece(i, i + 1, "", language, "stop") for i, language in enumerate(heard))
    found = Transcript(pieces)
    assert found.language == "Chinese,English,Chinese"
    assert json.loads(json.dumps(found.to_dict()))["pieces"][1] == {
        "start": 1,
        "end": 2,
        "text": "",
        "language": None,
        "finish_reason": "stop",
    }
    assert Transcript(()).language is None


def test_models_that_are_no_recognisers_refuse(model):
    with pytest.raises(omni.InputError, match="does not write transcripts") as refused:
        model.transcribe(SAMPLES / "speech.flac")
    assert refused.value.code == "not_a_recogniser"


@pytest.mark.parametrize(
    ("audio", "options", "code"),
    [
        (SAMPLES / "china.jpg", {}, "audio_no_track"),
        ("no such file.wav", {}, "source_not_found"),
        (omni.Image(SAMPLES / "china.jpg"), {}, "wrong_medium"),
        (np.zeros(16000, np.float32), {}, "audio_rate"),
        (SAMPLES / "speech.flac", {"stretch_seconds": 0.5}, "bad_stretch"),
        (SAMPLES / "speech.flac", {"stretch_seconds": 1201}, "bad_stretch"),
        (SAMPLES / "speech.flac", {"stretch_seconds": float("nan")}, "bad_stretch"),
        (SAMPLES / "speech.flac", {"batch_size": 0}, "bad_batch_size"),
        (SAMPLES / "speech.flac", {"max_new_tokens": 0}, "bad_max_new_tokens"),
    ],
)
def test_what_cannot_be_used_is_refused(recogniser, audio, options, code):
    with pytest.raises(omni.InputError) as refused:
        recogniser.transcribe(audio, **options)
    assert refused.value.code == code


@pytest.fixture
def command(recogniser, monkeypatch, capsys):
    """Runs `omni transcribe ...` with the recogniser: exit code, lines of stdout, stderr."""
    monkeypatch.setattr(omni, "load", lambda name, **options: recogniser)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["omni", "transcribe", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return call


def test_the_command_writes_a_line_a_file(command, recogniser):
    files = [SAMPLES / "speech.flac", SAMPLES / "dashwood.flac"]
    wanted = [one.text for one in recogniser.transcribe(files, "en")]
    assert command(*files, "-m", "asr", "--language", "en")[:2] == (0, [" ".join(w.split("\n")) for w in wanted])


def test_the_command_writes_json_and_passes_over_what_it_cannot_read(command, recogniser):
    code, lines, errors = command(SAMPLES / "speech.flac", "absent.wav", "-m", "asr", "--json")
    assert code == 2 and "absent.wav: " in errors
    (found,) = map(json.loads, lines)
    assert found == {"file": str(SAMPLES / "speech.flac"), **recogniser.transcribe(SAMPLES / "speech.flac").to_dict()}


def test_the_command_refuses_in_one_line(command):
    assert command(SAMPLES / "speech.flac")[0] == 2
    code, lines, errors = command(SAMPLES / "speech.flac", "-m", "asr", "--language", "Klingon")
    assert code == 2 and not lines and errors.startswith("omni: language must be one of")
