"""Evaluation counts exactly the answers that are given, whatever the file, the order and the batch."""

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
import scipy.stats
import soundfile
from PIL import Image

import omni
from omni.cli import main
from omni.prompt.records import Record, read_records
from omni.tools.evaluate import Result, Score, evaluate, table, turns
from tests.golden import media

ASKED = [
    ("shapes", ["image"], ["What is it?", "And its colour?", "Sure?"]),
    ("words", ["audio"], ["What is said?"]),
    ("shapes", ["image"], ["Where is it?"]),
    ("both", ["image", "audio"], ["Is it the same?", "Why?"]),
    (None, [], ["Who are you?"]),
]


@pytest.fixture(scope="module")
def ending(tiny_checkpoint):
    """The tiny model with many tokens that end an answer, so that random weights come to one."""
    model = omni.load(tiny_checkpoint)
    ends = tuple(token for token in range(model.config.text.vocab_size) if token % 13 == 9)
    model.generation = dataclasses.replace(model.generation, eos_token_ids=ends)
    return model


@pytest.fixture(scope="module")
def folder(ending, tmp_path_factory):
    """data.jsonl, whose answers are those that the model gives, its media, and the same as data.zip."""
    folder = tmp_path_factory.mktemp("heldout")
    (folder / "media").mkdir()
    Image.fromarray(media.image("small")).save(folder / "media" / "0.png")
    soundfile.write(folder / "media" / "0.flac", media.audio("short"), media.RATE)
    names = {"image": "media/0.png", "audio": "./media/0.flac"}
    lines = []
    for skill, kinds, questions in ASKED:
        here: list = [{"type": kind, kind: names[kind]} for kind in kinds]
        there: list = [{"type": kind, kind: str(folder / names[kind])} for kind in kinds]
        written, read = [], []
        for question in questions:
            written.append({"role": "user", "content": [*here, {"type": "text", "text": question}]})
            read.append({"role": "user", "content": [*there, {"type": "text", "text": question}]})
            reply = ending.generate(read, max_new_tokens=40, temperature=0)
            assert reply.finish_reason == "stop" and reply.text.strip(), (question, reply)
            for talk in (written, read):
                talk.append({"role": "assistant", "content": reply.text.strip()})
            here, there = [], []
        lines.append(json.dumps({"messages": written} | ({"skill": skill} if skill else {})))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data.jsonl", "media/0.png", "media/0.flac"):
            archive.write(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def records(folder):
    return read_records(folder / "data.jsonl")


def in_order(results):
    return sorted(results, key=lambda result: (result.index, result.turn))


def altered(records, index, at, text):
    """The records with one message saying something else."""
    messages = [dict(message) for message in records[index].messages]
    messages[at]["content"] = text
    return [*records[:index], Record(messages, records[index].skill), *records[index + 1 :]]


def test_own_answers_are_right_whatever_the_file_and_the_batch(ending, folder, records):
    results = in_order(evaluate(ending, records))
    assert [(one.index, one.turn, one.skill) for one in results] == [
        (i, turn + 1, skill or "all") for i, (skill, _, questions) in enumerate(ASKED) for turn in range(len(questions))
    ]
    assert all(one.right for one in results)
    assert results[0].question == "[image] What is it?" and results[5].question == "[image] [audio] Is it the same?"
    assert in_order(evaluate(ending, read_records(folder / "data.zip"), batch_size=3)) == results


def test_a_changed_answer_is_the_one_that_is_wrong(ending, records):
    last = altered(records, 0, 5, "Never.")
    (wrong,) = [one for one in evaluate(ending, last) if not one.right]
    assert (wrong.index, wrong.turn, wrong.wanted, wrong.said) == (0, 3, "Never.", records[0].messages[5]["content"])
    padded = altered(records, 0, 5, f"  {records[0].messages[5]['content']}\n")
    assert all(one.right for one in evaluate(ending, padded))


def test_later_turns_read_what_was_recorded_and_not_what_was_said(ending, records):
    first = altered(records, 0, 1, "It is a barn, with a red roof and a white door.")
    results = [one for one in in_order(evaluate(ending, first)) if one.index == 0]
    assert not results[0].right and results[0].said == records[0].messages[1]["content"]
    for one, at in zip(results, (1, 3, 5), strict=True):
        reply = ending.generate(first[0].messages[:at], max_new_tokens=40, temperature=0)
        assert reply.text.strip() == one.said
    assert results[1].said != records[0].messages[3]["content"]


def test_what_can_be_asked_for():
    messages = [
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "Two "}, "parts."]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "look"}}]},
        {"role": "tool", "content": "5"},
        {"role": "assistant", "content": "Five."},
    ]
    assert turns(messages) == [2, 5]


def test_scores_are_those_of_each_skill_and_of_all():
    said = [("b", "x"), ("a", "x"), ("b", "y"), ("all", "x"), ("b", "y")]
    results = [Result(i, skill, 1, "?", "x", text) for i, (skill, text) in enumerate(said)]
    assert table(results) == [Score("a", 1, 1), Score("b", 3, 1), Score("all", 5, 3)]
    assert table(results[3:4]) == [Score("all", 1, 1)] and table([]) == []


@pytest.mark.parametrize(("right", "items"), [(0, 1), (0, 10), (8, 10), (10, 10), (1187, 1200)])
def test_intervals_are_wilsons(right, items):
    score = Score("all", items, right)
    known = scipy.stats.binomtest(right, items).proportion_ci(0.95, method="wilson")
    assert score.share == right / items and score.interval == pytest.approx((known.low, known.high), abs=1e-9)
    assert 0 <= score.interval[0] <= score.share <= score.interval[1] <= 1


# --- files ------------------------------------------------------------------------------------------------------------

LINE = json.dumps({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]})
NO_MEDIUM = json.dumps({"messages": [{"role": "user", "content": [{"type": "image", "image": "../0.png"}]}]})


@pytest.mark.parametrize(
    ("files", "code", "reason"),
    [
        ({}, "bad_archive", r"one \.jsonl file at its root, not 0"),
        ({"inner/data.jsonl": LINE}, "bad_archive", r"one \.jsonl file at its root, not 0"),
        ({"a.jsonl": LINE, "b.jsonl": LINE}, "bad_archive", "not 2"),
        ({"data.jsonl": ""}, "bad_file", "holds no conversations"),
        (
            {"data.jsonl": f"{LINE}\n{NO_MEDIUM}", "0.png": "x"},
            "bad_line",
            r"line 2 of data\.jsonl: .*no '\.\./0\.p",
        ),
        ({"data.jsonl": f"{LINE}\n\n{{"}, "bad_line", r"line 3 of data\.jsonl"),
        ({"data.jsonl": LINE[:-1] + ', "skill": 7}'}, "bad_line", "a skill must be a name, got 7"),
    ],
)
def test_bad_archives_are_refused(tmp_path, files, code, reason):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    with pytest.raises(omni.InputError, match=reason) as refused:
        read_records(tmp_path / "data.zip")
    assert refused.value.code == code and "\n" not in str(refused.value)


def test_damage_is_refused(folder, tmp_path):
    whole = (folder / "data.zip").read_bytes()
    place = whole.index(b"media/0.png") + 200
    for damaged in (b"", b"no archive", whole[:-30], whole[:place] + b"\0" * 20 + whole[place + 20 :]):
        (tmp_path / "data.zip").write_bytes(damaged)
        with pytest.raises(omni.InputError, match=r"data\.zip cannot be read as a zip archive: ") as refused:
            read_records(tmp_path / "data.zip")
        assert refused.value.code == "bad_archive"
    with pytest.raises(omni.InputError, match="cannot be read as a zip archive: No such file"):
        read_records(tmp_path / "absent.zip")


def test_records_that_cannot_be_asked_are_refused(ending, records, tmp_path):
    with pytest.raises(omni.InputError, match="no record holds an answer") as refused:
        next(evaluate(ending, [Record([{"role": "user", "content": "?"}])]))
    assert refused.value.code == "nothing_to_ask"
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    seen = altered(records, 2, 0, [{"type": "image", "image": tmp_path / "bad.png"}])
    with pytest.raises(omni.InputError, match="conversation 3: "):
        list(evaluate(ending, seen))
    with pytest.raises(omni.InputError, match=r"conversation 5: .*robot"):
        list(evaluate(ending, [*records[:4], Record([{"role": "robot", "content": "?"}])]))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(ending, monkeypatch, capsys, tmp_path):
    """Runs `omni eval ...` in an empty folder with the model: exit code, lines of stdout, stderr."""
    monkeypatch.setattr(omni, "load", lambda name, **options: ending)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["omni", "eval", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return call


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_command_prints_a_table_and_writes_every_result(command, ending, folder, records):
    wrong = altered(records, 0, 5, "Never.")
    lines = [json.dumps({"messages": record.messages, "skill": record.skill}) for record in wrong]
    Path("data.jsonl").write_text("\n".join(lines), "utf-8")
    code, out, err = command("tiny", "data.jsonl", "--json", "results.jsonl", "--show-wrong", 2)
    assert code == 0 and "Traceback" not in err
    rows = out[: out.index("")]
    assert len({len(row) for row in rows}) == 1 and cells(rows[0])[:4] == ["skill", "items", "right", "share"]
    assert [cells(row)[:4] for row in rows[2:]] == [
        ["both", "2", "2", "100.0%"],
        ["shapes", "4", "3", "75.0%"],
        ["words", "1", "1", "100.0%"],
        ["all", "8", "7", "87.5%"],
    ]
    assert out[len(rows) + 1] == "conversation 1, answer 3 (shapes): Sure?" and "Never." in out[len(rows) + 2]
    found = [json.loads(line) for line in Path("results.jsonl").read_text("utf-8").splitlines()]
    assert found == [result.to_dict() for result in evaluate(ending, wrong)]
    assert [one["right"] for one in found].count(False) == 1


def test_a_checkpoints_own_data_is_the_default(command, folder):
    Path("mine").mkdir()
    code, out, err = command("mine")
    assert (
        code == 2
        and not out
        and err.splitlines() == ["omni: mine comes without a heldout.zip: name a file of conversations"]
    )
    Path("mine/heldout.zip").write_bytes((folder / "data.zip").read_bytes())
    code, out, _ = command("mine")
    assert code == 0 and cells(out[-1])[:4] == ["all", "8", "8", "100.0%"]
    # Another checkpoint without any is asked the same.
    Path("other").mkdir()
    code, out, _ = command("other", "--against", "mine")
    assert code == 0 and cells(out[0]) == ["skill", "items", "mine", "other", "change"]
    assert cells(out[-1]) == ["all", "8", "100.0%", "100.0%", "+0.0"]


@pytest.mark.parametrize("arguments", [("mine", "absent.zip"), ("mine", "absent.jsonl"), ("no/such/thing/at all",)])
def test_the_command_refuses_in_one_line(command, arguments):
    code, out, err = command(*arguments)
    assert code == 2 and not out and len(err.splitlines()) == 1 and "Traceback" not in err


def test_a_record_that_is_too_long_is_named(ending, records, monkeypatch):
    long = altered(records, 4, 0, "Who? " * 100)
    monkeypatch.setattr(ending.engine, "max_tokens", 90)
    with pytest.raises(omni.InputError, match=r"conversation 5: the conversation is \d+ tokens long") as error:
        list(evaluate(ending, long))
    assert error.value.code == "too_many_tokens"
