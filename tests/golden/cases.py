"""The conversations of the golden tests. Media stand by their names in media.py; `audio` in a video part names the
sound track that is interleaved with the frames."""

from typing import Any

Message = dict[str, Any]


def _user(*content: Any) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}


def _say(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _image(name: str) -> Message:
    return {"type": "image", "image": name}


def _audio(name: str) -> Message:
    return {"type": "audio", "audio": name}


def _video(name: str, *, sound: bool = False) -> Message:
    return {"type": "video", "video": name} | ({"audio": name} if sound else {})


CONVERSATIONS: dict[str, list[Message]] = {
    "text": [_say("user", "What do you see in this picture?")],
    "text_parts": [_user("First one part, ", "then another,", " and a third.")],
    "system": [
        _say("system", "You are a helpful assistant. You are terse."),
        _say("user", "Count from 1 to 10, and then explain 3136 * 12845056."),
    ],
    "turns": [
        {"role": "system", "content": [{"type": "text", "text": "You answer questions about pictures."}]},
        _say("user", "What's the harbour like at 5 o'clock?"),
        _say("assistant", "Quiet. The first boats come in."),
        _user("And the gulls?"),
        {"role": "assistant", "content": [{"type": "text", "text": "They follow the boats,\n\nnoisily."}]},
        _say("user", "Thank you. Describe the sound."),
    ],
    "thoughts": [
        _say("user", "Which is larger, 19 or 37?"),
        _say("assistant", "<think>\n37 - 19 = 18, so the second.\n</think>\n\n37 is."),
        _say("user", "By how much?"),
    ],
    "spaces": [
        _say("system", " \n"),
        _say("user", "  two spaces, a tab\t, and lines \n\n\n  \r\n of different kinds   \n "),
    ],
    "unicode": [
        # The first word comes decomposed, so that normalisation shows.
        _say("user", "Cafe\u0301 naïve Möwen 港は早い Порт 👩🏽‍🚀🎉 \u200d\u00a0ﬁ ½ ٣ — don't, I'LL"),
        _say("assistant", "  🙂  "),
        _say("user", "def area(w, h):\n    return w*h  # <not a token> <|nor this|>"),
    ],
    "image": [_user(_image("small"), "Describe the image.")],
    "images": [
        _user(_image("odd"), "This one,", _image("tiny"), _image("half"), " those two, ", _image("small"), "and that?")
    ],
    "wide_and_tall": [_user("Which is wider? ", _image("wide"), _image("tall"))],
    "audio_tenth": [_user(_audio("tenth"), "What do you hear?")],
    "audio_short": [_user(_audio("short"), "What do you hear?")],
    "audio_second": [_user(_audio("second"), "What do you hear?")],
    "audio_uneven": [_user(_audio("uneven"), "What do you hear?")],
    "audio_window": [_user(_audio("window"), "What do you hear?")],
    "audio_middle": [_user(_audio("middle"), "What do you hear?")],
    "audio_half_minute": [_user(_audio("half_minute"), "What do you hear?")],
    "audio_long": [_user(_audio("long"), "What do you hear?")],
    "clips": [_user(_audio("short"), "then", _audio("middle"), _audio("tenth"), "and", _audio("second"), "Compare.")],
    "video": [_user(_video("seven"), "What moves?")],
    "video_crooked": [_user("Watch: ", _video("crooked"), "What moves?")],
    "video_whole": [_user(_video("whole"), "What moves?")],
    "video_sound": [_user(_video("seven", sound=True), "What moves, and what do you hear?")],
    "video_sound_crooked": [_user("Watch: ", _video("crooked", sound=True), "What do you hear?")],
    "video_sound_four": [_user(_video("four", sound=True), "What do you hear?")],
    "videos_sound": [_user(_video("crooked", sound=True), "or", _video("four", sound=True), "?")],
    "together": [_user(_image("odd"), "first, ", _video("four"), "then", _audio("short"), "What do they share?")],
    "together_sound": [
        _user(_audio("uneven"), _image("small"), "and", _video("four", sound=True), "and", _audio("tenth"), "?")
    ],
    "media_turns": [
        _say("system", "You are terse."),
        _user(_image("half"), "What do you see?"),
        _say("assistant", "A disc."),
        _user(_audio("second"), "What do you hear?"),
        _say("assistant", "A rising tone."),
        _user(_video("crooked"), _image("small"), "What moves?"),
    ],
}
