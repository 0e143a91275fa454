"""Trains tokenizer.json: a small byte-level BPE with the Qwen2 pre-tokeniser and the special tokens of Qwen3-Omni.

    python -m tests.golden.make_tokenizer

The result is committed; run this only to change it, for every stored token id changes with it.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
MERGES = 600
# As published: these two lists are the order of the ids, and <think> and <tool_call> are not special.
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|>
<|video_pad|> <tool_call> </tool_call> <think> </think> <|audio_start|> <|audio_end|> <|audio_pad|>""".split()
PLAIN = {"<tool_call>", "</tool_call>", "<think>", "</think>"}
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = """
The harbour wakes before the town does. At five in the morning the first boats come in, low in the water, and the gulls
follow them with a noise like a gate that nobody oils. A woman in a yellow coat counts crates of herring; she counts
aloud, because the man beside her writes the numbers down, and because he doesn't trust a figure that he hasn't heard.
There are forty-two crates today. Yesterday there were 37, and on Monday only 19, but that was the storm's doing.
What do you see in this picture? What do you hear in this recording? Describe the image, then the sound, then the video.
The picture shows a street in the rain. The sound is a bell, far away, and a car that passes from left to right.
Answer in one short sentence. Answer with a list of three things. Please explain how you know, and how certain you are.
The video begins with a ball on a table; the ball rolls, falls, and bounces twice. After that nothing moves.
user
assistant
system
user
assistant
system
user
assistant
system
user
assistant
system
You are a helpful assistant. You are terse. You answer questions about pictures, sounds and films.
I'm not sure it's right, but we've seen that they're often wrong, and I'd say you'll find they can't be otherwise.
def area(width, height):
    return width * height

for index in range(10):
    print(index, area(index, index + 1))
{"name": "camera", "pixels": [3136, 12845056], "rate": 16000, "mono": true}
Der Hafen erwacht vor der Stadt. Die ersten Boote kommen früh, und die Möwen folgen ihnen über das grüne Wasser.
Le port se réveille avant la ville. Les premiers bateaux arrivent tôt, et les mouettes les suivent à grands cris.
El puerto despierta antes que la ciudad; mañana habrá más barcos y más niños en la orilla.
港は町より先に目を覚ます。最初の船は朝早く戻ってくる。
港口比城市醒得更早。第一批船清晨归来，海鸥跟在后面。你在这张图片里看到了什么？
Порт просыпается раньше города. Первые лодки возвращаются рано утром, и чайки летят за ними.
"""


def trained(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer with merges of those texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + MERGES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(text, special=text not in PLAIN, normalized=False) for text in SPECIAL])
    return tokenizer


def main() -> None:
    tokenizer = trained(TEXT.split("\n\n"))
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
    print(tokenizer.get_vocab_size(), "tokens")


if __name__ == "__main__":
    main()
