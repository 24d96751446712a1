"""OpenAI's video format, as inference servers and relays serve it under ``/v1/videos``.

Rule: what servers of this format agree on is a create that answers with an id and a look that answers with a status;
everything else differs and is read wherever any of them puts it. Lengths and sizes are sent as asked, except to the
Sora models, which have a few of each: to them the nearest one goes, and `adjusted` says so.

Source: openai-python 3.3 (``resources/videos``) for what is sent; the video servers of SGLang, vLLM-Omni, LiteLLM,
new-api, OpenRouter and Together for what comes back.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from ..errors import InvalidRequestError
from ..schemas import (
    CARRIED,
    FRAMES_PER_SECOND,
    Failure,
    Generation,
    InpaintItem,
    RequestEcho,
    TaskPage,
    VideoRequest,
    VideoTask,
)
from ..wire import Call, Dialect, Reply, Upload, any_json, opened, poll_after, typeid_time, unreadable
from .asking import prompt_and_images, segment
from .reading import (
    MOST_LISTED,
    addresses,
    carried,
    expiry,
    failure,
    failure_kind,
    first_text,
    members,
    moment,
    names,
    objects,
    page,
    percent,
    seconds,
    status_of,
    text,
    usable,
    whole,
    within,
)

Json = Mapping[str, Any]

PATH: Final = "/v1/videos"
_SORA: Final = r"sora-2(-pro)?(-\d{4}-\d\d-\d\d)?"
_SORA_SECONDS: Final = (4, 8, 12)
_SORA_SIZES: Final = ((1280, 720), (720, 1280), (1792, 1024), (1024, 1792))
_UNREAD_WORDS: Final = r"(?i)multipart|form[- ]?data|content[- ]type|urlencoded|'dict' object has no attribute 'read'"
"""The last is LiteLLM's: its request to the server behind it broke off where a picture's bytes had to follow."""

_WHOSE_LIST: Final = "LLM Provider NOT provided"


class Videos(Dialect):
    """OpenAI's format: ``dialect="videos"``."""

    name = "videos"
    looks_by_id = True

    def create(self, request: VideoRequest, key: str) -> Call[VideoTask]:
        """The paid call, as JSON, and as a form for the servers that read nothing else.

        Raises:
            InvalidRequestError: The format cannot say it. Nothing was sent.
        """
        path, body = _asked(request)
        headers = {"Idempotency-Key": key}
        form = partial(_as_form, path, body, headers)
        return Call("create", "POST", path, _created, body=body, headers=headers, otherwise=form)

    def look(self, task_id: str) -> Call[VideoTask]:
        """One task by its id."""
        return Call("look", "GET", _at(task_id), partial(_looked, task_id))

    def list(self, limit: int, before: str | None) -> Call[TaskPage]:
        """One page of tasks, newest first; ``before`` is the ``before`` of the page seen last."""
        query = {"limit": limit, "after": before, "order": "desc"}
        return Call("list", "GET", PATH, partial(_listed, limit, before), query=query)

    def delete(self, task_id: str) -> Call[None]:
        """Delete a task and its video. Whether a job that still runs is stopped is up to the server."""
        return Call("delete", "DELETE", _at(task_id), partial(_deleted, task_id))

    def adjusted(self, request: VideoRequest) -> tuple[str, ...]:
        """Where the nearest length or size is made in place of the one asked for."""
        made = self.made(request)
        if made is None:
            return ("width, height, n_frames, model: a remix has those of the video that it is made of.",)
        told = []
        if made.n_frames != request.n_frames:
            seconds, asked = made.n_frames // FRAMES_PER_SECOND, request.n_frames / FRAMES_PER_SECOND
            told.append(f"n_frames: {seconds} s are made where {asked:g} s were asked for.")
        if (made.width, made.height) != (request.width, request.height):
            size, given = f"{made.width}x{made.height}", f"{request.width}x{request.height}"
            told.append(f"width, height: {size} is made where {given} was asked for.")
        return tuple(told)

    def made(self, request: VideoRequest) -> VideoRequest | None:
        """The request with the nearest length and size; None of a remix, which has those of its source."""
        if request.operation == "remix":
            return None
        seconds, (width, height) = _fitted(request.model, request.n_frames, request.width, request.height)
        length = {} if _frames_given(request.extra) else {"n_frames": seconds * FRAMES_PER_SECOND}
        size = {} if "size" in request.extra else {"width": width, "height": height}
        return request.model_copy(update={**length, **size})

    def expected(self, body: Json) -> Json:
        """The text and size that a list shows, as they were sent."""
        seconds, (width, height) = _fitted(body.get("model"), body["n_frames"], body["width"], body["height"])
        shown: dict[str, Any] = {"prompt": body.get("prompt")}
        if body.get("operation") == "remix":
            return shown
        if "size" not in body:
            shown.update(width=width, height=height)
        return shown if _frames_given(body) else {**shown, "n_frames": seconds * FRAMES_PER_SECOND}

    def located(self, reply: Reply) -> str | None:
        """The address that some servers answer with in place of a video's bytes, in whatever member."""
        value = any_json(reply)
        said = first_text(within(value, "detail")) or ""  # a sentence with the address in it
        links = (usable(link.rstrip(".,)")) for link in re.findall(r"https?://[^\s\"'<>]+", said))
        return next(filter(None, (*addresses(value), *links)), None)


# --- sending -----------------------------------------------------------------------------------------------------


def _asked(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """Path and JSON body of a create."""
    if request.operation == "remix":
        return f"{_at(_source(request))}/remix", {"prompt": request.prompt, **request.extra}
    prompt, images = prompt_and_images(request, Videos.name)
    if len(images) > 1:
        raise InvalidRequestError(
            f"inpaint_items: {len(images)} were given; the videos format takes one.", hint="Nothing was sent."
        )
    seconds, (width, height) = _fitted(request.model, request.n_frames, request.width, request.height)
    return PATH, {
        **({} if request.model is None else {"model": request.model}),
        "prompt": prompt,
        **({} if _frames_given(request.extra) else {"seconds": str(seconds)}),
        "size": f"{width}x{height}",
        **({"input_reference": {"image_url": images[0]}} if images else {}),
        **request.extra,
    }


def _source(request: VideoRequest) -> str:
    """The task id of the video that a remix is made of."""
    prompt_and_images(request.model_copy(update={"operation": "simple_compose", "inpaint_items": ()}), Videos.name)
    given = [item for item in request.inpaint_items if item != InpaintItem()]
    if len(given) != 1 or given[0] != InpaintItem(generation_id=given[0].generation_id):
        raise InvalidRequestError(
            "inpaint_items: a remix in the videos format takes one item, with the task id of a finished video as its "
            "generation_id and nothing else.",
            hint="Nothing was sent.",
        )
    return given[0].generation_id or ""


def _frames_given(extra: Json) -> bool:
    """Whether the length is said in an engine's own terms."""
    return not {"num_frames", "seconds"}.isdisjoint(extra)


def _fitted(model: str | None, n_frames: int, width: int, height: int) -> tuple[int, tuple[int, int]]:
    """Length in seconds and size in pixels, as near to what was asked for as the model has them."""
    asked = n_frames / FRAMES_PER_SECOND
    if not re.fullmatch(_SORA, model or ""):
        return max(1, round(asked)), (width, height)

    def distance(size: tuple[int, int]) -> float:
        """Its shape counts more than its area."""
        shape = abs(math.log(size[0] / size[1]) - math.log(width / height))
        return shape + abs(math.log(size[0] * size[1]) - math.log(width * height)) / 4

    return min(_SORA_SECONDS, key=lambda seconds: abs(seconds - asked)), min(_SORA_SIZES, key=distance)


def _as_form(path: str, body: Json, headers: Mapping[str, str], reply: Reply) -> Call[VideoTask] | None:
    """The same create as a form, where a reply says that its JSON was not read."""
    if not _is_unread(reply):
        return None
    form: dict[str, str | Upload] = {}
    for name, value in body.items():
        url = members(value).get("image_url") if name == "input_reference" else None
        if url is None:
            form[name] = value if isinstance(value, str) else json.dumps(value)
        elif (picture := _picture(url)) is not None:
            form[name] = picture
        else:
            form[f"{name}[image_url]"] = url
    return Call("create", "POST", path, _created, form=form, headers=headers)


def _is_unread(reply: Reply) -> bool:
    """Whether a refusal is of the encoding: 415, or a member that was sent is called missing."""
    if reply.status == 415 and next(_named(any_json(reply)), None) is None:
        return True
    if reply.status not in (400, 422) or next(_named(any_json(reply)), None) is not None:
        return False  # what names a job may have been read all the same
    detail = members(any_json(reply)).get("detail")
    missing = any(
        each.get("type") == "missing" and isinstance(each.get("loc"), list) and each["loc"][-1:] == ["prompt"]
        for each in objects(detail)
    )
    return missing or re.search(_UNREAD_WORDS, reply.body[:2000].decode(errors="replace")) is not None


def _picture(url: str) -> Upload | None:
    """The image that a data address carries."""
    found = re.fullmatch(r"(?is)data:(image/[\w.+-]+);base64,(.*)", url)
    if found is None:
        return None
    try:
        content = b64decode(found[2], validate=True)
    except binascii.Error:
        return None
    kind = found[1].lower()
    return Upload(f"reference.{kind.rpartition('/')[2].partition('+')[0]}", content, kind)


def _at(task_id: str) -> str:
    """The path of one task."""
    return f"{PATH}/{segment(task_id)}"


# --- reading -----------------------------------------------------------------------------------------------------


def _created(reply: Reply) -> VideoTask:
    named = next(_named(opened(reply, "create")), None)
    if named is None:
        raise unreadable(reply, "create", "The gateway's answer to the create names no task")
    task = _task(named, reply)
    return task if task.raw_status is not None else task.model_copy(update={"status": "queued"})


def _looked(task_id: str, reply: Reply) -> VideoTask:
    value = any_json(reply)
    named = [*_named(value)]
    found = next((raw for raw in named if task_id in (raw.get("id"), raw.get("task_id"))), None)
    if found is not None and status_of(text(found.get("status"))) in ("failed", "cancelled"):
        return _task(found, reply, task_id)  # some servers send a job's failure as an HTTP error
    opened(reply, "look", value)
    if found is None and (not named or _is_wrapped(task_id)):
        found = next((raw for raw in (*named, members(value)) if text(raw.get("status"))), None)
    if found is None:
        raise unreadable(reply, "look", f"The gateway's answer is not task {task_id}", task_id=task_id)
    return _task(found, reply, task_id)


def _is_wrapped(task_id: str) -> bool:
    """Whether a proxy has put a job's own id into this one: LiteLLM packs both in base64."""
    packed = task_id.removeprefix("video_")
    try:
        return b"video_id:" in b64decode(packed + "=" * (-len(packed) % 4))
    except binascii.Error:
        return False


def _listed(limit: int, before: str | None, reply: Reply) -> TaskPage:
    try:
        value = opened(reply, "list")
    except InvalidRequestError as error:
        if _WHOSE_LIST in error.message:
            error.hint = 'LiteLLM lists the videos of one provider: set headers={"custom-llm-provider": "openai"}.'
        raise
    found = value if isinstance(value, list) else members(value).get("data", members(value).get("videos"))
    listed = [] if found is None and "data" in members(value) else found
    if not isinstance(listed, list):
        raise unreadable(reply, "list", "The gateway's answer is not a list of tasks")
    jobs = [raw for raw in objects(listed)[: MOST_LISTED + 1] if _id(raw) is not None]
    tasks = tuple(_task(raw, reply) for raw in jobs[:MOST_LISTED])
    return page(members(value), tasks, limit, before, cut=len(jobs) > MOST_LISTED)


def _deleted(task_id: str, reply: Reply) -> None:
    if 200 <= reply.status < 300 and not reply.body.strip():
        return
    value = opened(reply, "delete")
    if members(value).get("deleted") is False:
        raise unreadable(reply, "delete", f"The gateway did not delete {task_id}", task_id=task_id)


def _named(value: Any) -> Iterator[Json]:
    """The objects with an id that a body is, or carries in an envelope."""
    yield from (raw for raw in carried(value) if _id(raw) is not None)


def _id(raw: Json) -> str | None:
    return next(iter(names(raw, "id", "task_id", "video_id")), None)


def _task(raw: Json, reply: Reply, task_id: str | None = None) -> VideoTask:
    task_id = task_id or _id(raw) or ""
    word = text(raw.get("status"))
    status = status_of(word)
    return VideoTask(
        task_id=task_id,
        status=status,
        raw_status=word,
        progress=percent(raw.get("progress")),
        generations=_generations(raw, task_id) if status == "succeeded" else (),
        failure=_failure(raw, status) if status in ("failed", "cancelled") else None,
        request=_echo(raw),
        created_at=moment(raw.get("created_at")) or typeid_time(task_id),
        poll_after=poll_after(reply.headers),
        dialect=Videos.name,
        raw=raw,
    )


def _generations(raw: Json, task_id: str) -> tuple[Generation, ...]:
    """The videos at the addresses that are told, or else the one at the content route, which asks for the key."""
    width, height = _size(raw) or (None, None)
    length = _length(raw)
    facts = {
        "width": width,
        "height": height,
        "duration": length,
        "n_frames": None if length is None else round(length * FRAMES_PER_SECOND),
        "thumbnail_url": usable(raw.get("thumbnail_url")),
    }
    told = addresses(raw)
    carried = first_text(*(each.get("b64_json") for each in objects(raw.get("data"))[:1]))
    if not told and carried is not None:
        return (Generation(url=CARRIED + carried, **facts),)
    if not told:
        return (Generation(generation_id=task_id, url=f"{_at(task_id)}/content", needs_key=True, **facts),)
    return tuple(Generation(url=url, expires_at=expiry(url), **facts) for url in told)


def _failure(raw: Json, status: str) -> Failure:
    error = raw.get("error")
    said = first_text(
        error, within(error, "message"), within(error, "detail"), raw.get("fail_reason"), raw.get("message")
    )
    code = within(error, "code")
    return failure("cancelled" if status == "cancelled" else failure_kind(f"{said} {code}"), said, code)


def _echo(raw: Json) -> RequestEcho | None:
    width, height = _size(raw) or (None, None)
    length = _length(raw)
    echo = RequestEcho(
        prompt=text(raw.get("prompt")),
        model=text(raw.get("model")),
        width=width,
        height=height,
        n_frames=None if length is None else round(length * FRAMES_PER_SECOND),
    )
    return echo if echo != RequestEcho() else None


def _size(raw: Json) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]{1,5})[xX*]([0-9]{1,5})", text(raw.get("size")) or "")
    if found is not None:
        return (int(found[1]), int(found[2])) if int(found[1]) and int(found[2]) else None
    width, height = whole(raw.get("width"), 1), whole(raw.get("height"), 1)
    return (width, height) if width and height else None


def _length(raw: Json) -> float | None:
    """Seconds of video."""
    return seconds(raw.get("seconds", raw.get("duration"))) or None
