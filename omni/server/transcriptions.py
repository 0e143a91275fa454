"""`/v1/audio/transcriptions`: recordings of any length, written down."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from omni.errors import InputError
from omni.media.types import Audio
from omni.server.errors import Refusal
from omni.server.http import attended, json_response, note, service_of
from omni.server.service import Service
from omni.tasks.transcribe import Transcript
from processors import Access, Sources
from processors.io.sources import NamedBytes

FORMS = ("json", "text", "srt", "verbose_json", "vtt")
_FIELDS = frozenset(("file", "model", "language", "prompt", "response_format", "temperature"))
_HARMLESS = frozenset(("timestamp_granularities[]", "timestamp_granularities", "chunking_strategy", "user"))
# Uploads that are held in memory while they are read; longer ones lie in a file.
_HELD = 16 << 20
_MOST_FIELDS = 20


async def transcriptions(request: Request) -> Response:
    """Answer with what is said in an uploaded recording."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal("not_json", "send a form, as multipart/form-data, with the recording as its file")
    service = service_of(request)
    with service.place():
        async with request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=1 << 16) as form:
            upload, fields = _fields(form)
            service.check_model(fields.get("model") or None)
            if service.model.config.transcript is None:
                raise Refusal(
                    "not_a_recogniser", "this model does not write transcripts; ask it about a recording in a chat"
                )
            transcript = await attended(request, service.call(_transcribe, service, upload, fields))
    note(request, seconds_of_audio=round(transcript.pieces[-1].end, 1))
    return _answer(transcript, fields.get("response_format") or "json")


def _fields(form: FormData) -> tuple[UploadFile, dict[str, str]]:
    """The recording and the other fields, checked."""
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise Refusal("missing_field", "the form has no file", "file")
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if name == "file" or name in _HARMLESS:
            if name.startswith("timestamp") and value != "segment":
                raise Refusal("unsupported_field", "times are those of segments, not of words", name)
            continue
        if name == "stream" and value in ("false", ""):
            continue
        if name not in _FIELDS or not isinstance(value, str):
            known = ", ".join(sorted(_FIELDS))
            raise Refusal("unknown_field", f"there is no field {name[:60]!r} here; there are {known}", name[:60])
        fields[name] = value
    if fields.get("response_format", "json") not in FORMS:
        raise Refusal("bad_field", f"response_format must be one of {', '.join(FORMS)}", "response_format")
    if fields.get("temperature", "0").strip() not in ("0", "0.0", ""):
        raise Refusal("unsupported_field", "transcripts are the likeliest: leave temperature at 0", "temperature")
    return upload, fields


def _transcribe(service: Service, upload: UploadFile, fields: Mapping[str, str]) -> Transcript:
    name = Path(upload.filename or "").name[:120] or "the recording"
    language, context = fields.get("language") or None, fields.get("prompt", "")
    access = service.model.access(deadline=service.settings.request_seconds)
    upload.file.seek(0)
    data = upload.file.read(_HELD + 1)
    if len(data) <= _HELD:
        held = NamedBytes(data)
        held.name = repr(name)
        return service.transcribe(Audio(held), language, context, access)
    # Decoded as it is read: of hours there is never more than a stretch in memory.
    with tempfile.TemporaryDirectory(prefix="omni-") as folder:
        path = Path(folder) / "recording"
        with path.open("wb") as file:
            file.write(data)
            shutil.copyfileobj(upload.file, file)
        access = Access(access.limits, Sources(folders=(folder,), private=False), access.deadline, access.isolate)
        try:
            return service.transcribe(Audio(path), language, context, access)
        except InputError as error:
            raise Refusal(error.code, str(error).replace(str(path), name)) from None


def _answer(transcript: Transcript, form: str) -> Response:
    if form == "json":
        return json_response({"text": transcript.text})
    if form == "verbose_json":
        return json_response(verbose(transcript))
    text = {"text": lambda t: t.text + "\n", "srt": srt, "vtt": vtt}[form](transcript)
    return PlainTextResponse(text, media_type="text/vtt" if form == "vtt" else "text/plain")


def verbose(transcript: Transcript) -> dict[str, Any]:
    """OpenAI's long form, with a segment for each stretch."""
    segments = [
        {
            "id": i,
            "start": piece.start,
            "end": piece.end,
            "text": piece.text,
            "language": piece.language,
            "finish_reason": piece.finish_reason,
        }
        for i, piece in enumerate(transcript.pieces)
    ]
    return {
        "task": "transcribe",
        "language": transcript.language,
        "duration": transcript.pieces[-1].end,
        "text": transcript.text,
        "segments": segments,
    }


def srt(transcript: Transcript) -> str:
    """SubRip subtitles."""
    cues = [
        f"{i}\n{_time(piece.start, ',')} --> {_time(piece.end, ',')}\n{_lines(piece.text)}\n"
        for i, piece in enumerate(_spoken(transcript), 1)
    ]
    return "\n".join(cues)


def vtt(transcript: Transcript) -> str:
    """WebVTT subtitles."""
    cues = [
        f"{_time(piece.start, '.')} --> {_time(piece.end, '.')}\n{_escaped(_lines(piece.text))}\n"
        for piece in _spoken(transcript)
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


def _spoken(transcript: Transcript) -> list[Any]:
    return [piece for piece in transcript.pieces if piece.text.strip()]


def _lines(text: str) -> str:
    """A cue ends at an empty line, so it has none; nor may it look like another's times."""
    return "\n".join(line for line in text.replace("-->", "->").splitlines() if line.strip())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, mark: str) -> str:
    whole = round(seconds * 1000)
    hours, minutes, rest = whole // 3_600_000, whole // 60_000 % 60, whole % 60_000
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
