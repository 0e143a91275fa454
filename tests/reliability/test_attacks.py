"""What strangers' files, names and messages tried against whole programs: folders, chats, saved files."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import omni
from tests.reliability import addresses, injection, media
from tests.reliability.corpus.table import demo, user
from tests.reliability.everything import names, tables

ROOT = Path(__file__).parents[2]
# The kinds of fault that were once there, and how the names of the inputs that show them begin.
KINDS_OF_FAULT = {
    "length comes from the stream": (
        "audio: WAV of length",
        "audio: MP3 of constant rate",
        "audio: FLAC of unknown",
        "audio: two Ogg",
    ),
    "clocks": ("video: two transport streams", "video: a screen whose frames"),
    "no foreign exception": (
        "video: motion JPEG with EXIF",
        "source: a stream that raises",
        "source: a stream without an end",
    ),
    "nothing vanishes": (
        "message: images beside",
        "message: tools",
        "message: tool arguments",
        "template: a template that drops",
    ),
    "one object twice": ("image: one lazily opened", "message: one picture twice"),
    "fields of checkpoints": (
        "checkpoint: the end named by",
        "checkpoint: note",
        "checkpoint: YaRN",
        "checkpoint: adapters",
    ),
    "kind by probing": ("image: GIF with G", "audio: kind of mpegts", "audio: MP3 with zeros before"),
    "addresses and encodings": (
        "source: GET /图片",
        "source: data URI without padding",
        "message: record with a byte order mark",
    ),
    "rare pictures": ("video: animated WEBP", "image: TIFF of 1 bits whose zero", "video: see-through animated"),
    "budgets": (
        "message: part: video with total_pixels",
        "message: part: image_url with detail",
        "array: picture through DLPack",
    ),
    "bytes reach files and sockets": ("video: ffconcat", "video: m3u8", "video: SDP"),
    "addresses go anywhere": ("source: address 169.254", "source: a redirect to", "source: a message's address"),
    "small input, gigabytes": ("bomb: PNG", "bomb: FLAC", "bomb: one pixel"),
    "NaN in, text out": (
        "checkpoint: nan in",
        "embedding: nan",
        "array: audio with a sample of 1e18",
        "array: floats of integers'",
    ),
    "contradictions": (
        "checkpoint: a tensor in two shards",
        "checkpoint: header with overlapping",
        "audio: AIFF cut",
        "video: libx264 in matroska with a hole",
    ),
    "raw errors": ("checkpoint: config.json deep", "message: record of long numbers", "array: clip with fps as text"),
    "work that strangers choose": ("template: nested loops", "template: a power folded"),
    "outputs": ("embedding: saved twice",),
}


@pytest.mark.parametrize("kind", list(KINDS_OF_FAULT))
def test_the_corpus_holds_every_kind_of_fault(kind):
    held = [name for _, name in names()] + list(tables(("bombs",))["bombs"])
    for beginning in KINDS_OF_FAULT[kind]:
        assert any(name.startswith(beginning) for name in held), beginning


def run_encode(folder, out, *options):
    code = "from omni.cli import main; main()"
    command = [sys.executable, "-c", code, "encode", str(folder), "--out", str(out), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_folder_is_encoded_whatever_lies_in_it(tmp_path):
    """Long names, odd bytes in names, clips whose frames carry EXIF, playlists, damage: the rest goes on."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    whole = ["a.png", "z.png", "m" * 235 + ".png", "é.png", "b.avi"]
    for name in whole[:-1]:
        media.picture(96, 96).save(folder / name, "PNG")
    (folder / "b.avi").write_bytes(media.motion_jpeg_with_exif("avi"))
    bad = {
        "c.png": media.image_bytes()[:60],
        "d.mp4": "ffconcat version 1.0\n# é\nfile b.avi\n".encode(),
        "e.wav": b"RIFF",
        "f.mp4": b"",
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    run = run_encode(folder, out, "--batch-size", "2")
    made = list(out.rglob("*.safetensors"))
    assert len(made) == len(whole), run.stderr[-2000:]
    assert run.returncode == 2 and "Traceback" not in run.stderr
    for name in bad:
        assert name in run.stderr
    assert "0x" not in run.stderr
    for path in made:
        assert omni.Embedding.load(path).tokens.size


def test_a_changed_picture_is_encoded_again(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (96, 96), "red").save(folder / "a.png")
    assert run_encode(folder, out).returncode == 0
    before = omni.Embedding.load(out / "a.png.safetensors")
    Image.new("RGB", (96, 96), "blue").save(folder / "a.png")
    assert run_encode(folder, out).returncode == 0
    after = omni.Embedding.load(out / "a.png.safetensors")
    assert not np.array_equal(before.tokens, after.tokens)


def test_a_playlist_in_a_message_tells_nothing_of_the_servers_disk(tmp_path, monkeypatch):
    import base64

    monkeypatch.chdir(tmp_path)
    (tmp_path / "private.mp4").write_bytes(media.clip())
    for text in (
        "ffconcat version 1.0\n# é\nfile private.mp4\n",
        "#EXTM3U\n# é\n#EXTINF:9,\nprivate.mp4\n#EXT-X-ENDLIST\n",
    ):
        url = "data:video/mp4;base64," + base64.b64encode(text.encode()).decode()
        with pytest.raises(omni.InputError):
            demo().chat(temperature=0).send([{"type": "video_url", "video_url": {"url": url}}, "What moves?"])


def test_one_lazily_opened_picture_in_two_questions(tmp_path):
    path = tmp_path / "a.png"
    media.picture(96, 96).save(path)
    image = Image.open(path)
    asks = [user({"type": "image", "image": image}, text) for text in ("What is this?", "Which colours?")]
    replies = demo().generate(asks, temperature=0, max_new_tokens=4)
    wanted = [
        demo().generate(user({"type": "image", "image": str(path)}, t), temperature=0, max_new_tokens=4)
        for t in ("What is this?", "Which colours?")
    ]
    assert [reply.token_ids for reply in replies] == [reply.token_ids for reply in wanted]


def test_an_embedding_saved_again_is_the_same_file(tmp_path):
    embedding, digests = demo().encode(omni.Video(np.zeros((4, 96, 96, 3), np.uint8), fps=2)), set()
    for _ in range(12):
        embedding.save(tmp_path / "e.safetensors")
        digests.add(hashlib.sha256((tmp_path / "e.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_no_words_become_control_tokens():
    tried, faults = injection.injected(300, seed=1)
    assert tried == 300 and not faults


def test_the_test_of_injection_can_fail():
    """A prompt that really holds one more control token is counted so."""
    one = injection.control_counts("x")
    two = {}
    ids = demo().prepare([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]).token_ids.tolist()
    for token in demo().tokenizer.control_tokens.values():
        if count := ids.count(token):
            two[token] = count
    assert one != two


def test_no_forbidden_address_is_connected_to(monkeypatch):
    tried, faults = addresses.forbidden()
    assert tried >= 40 and not faults


def test_no_playlist_opens_a_socket():
    tried, faults = addresses.playlists()
    assert tried == 10 and not faults


def test_the_watch_over_sockets_sees_one():
    import socket

    before = addresses.sockets()
    with socket.create_server(("127.0.0.1", 0)), addresses.watched() as wanted:
        assert addresses.sockets() == before + 1
        with socket.socket() as one, pytest.raises(OSError, match="nothing leaves"):
            one.connect(("10.0.0.1", 80))
    assert wanted == [("10.0.0.1", 80)]
