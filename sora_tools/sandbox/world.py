"""What the gateway remembers and how it behaves: a request in, an answer out.

Pure: no socket, no file, no thread of its own. Time comes from the injected clock, chance from a seed, and a task's
progress is a function of its age alone. Safe to call from several threads.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from . import backend, chat, completions, faults, relay, videos
from .formats import LISTED, SHOWN, SPOKEN
from .log import Received, bearer, received
from .manners import FORMATS, ChatAnswer, Format, GenerationsAnswer, Manners
from .memory import Memory
from .messages import Answer, Call, body_too_large, error
from .orders import MAX_BODY, Order, OrderError, Source, shown
from .routes import Place, place, unknown_path
from .scripts import Scripts
from .signing import Signer
from .spoiling import REDIRECTED
from .tasks import Generation, Task, TypeIds, Video, View, price

Pictures = Mapping[Source, bytes | OrderError]


class World:
    """A gateway's memory and manners.

    Args:
        clock: Unix time in seconds.
        seed: Where ids, signatures and generation seeds come from.
        duration: Seconds from accepted to succeeded at speed 1, whatever the video.
        speed: How many times faster than that tasks go.
        keys: The bearer keys that are let in; None lets in any that is not empty.
        formats: The formats that are served, of `manners.FORMATS`; None serves all. The others' paths are unknown.
        by_id: Whether `GET /sora/backend/video_gen/{task_id}` is served; most relays serve the list alone and
            answer here, as on any path they do not know, with their dashboard.
        idempotent: Whether a create whose `Idempotency-Key` was seen before answers with the first one's task.
        list_key: Where a list carries its tasks; `data` wraps each one in a `payload`.
        last_id_null: Whether `last_id` is always null.
        actions_shape: How storyboard actions are read back: by frame index (the web backend) or as they were sent.
        url_lifetime: Seconds a media URL works after the look that handed it out.
        prefixed_ids: Whether `/v1/videos` and `/v1/video/query` spell ids `MODEL:task_...`; looks know both.
        videos_takes: The bodies that `POST /v1/videos` reads; vLLM-Omni takes forms alone.
        videos_sizes: Whether `/v1/videos` makes any size and length, as engines do, or OpenAI's alone.
        generations_answer: Which of its three answers `/v1/video/generations` gives; see `generations`.
        url_in_fail_reason: Whether a `relay` answer has the video's URL in `fail_reason`, as old builds do.
        chat_answer: How a chat's stream tells of its video; see `transcripts`.
        chat_failure: Whether a video that failed is told in words alone, or by an error object in their place.
        chat_whole: Whether a chat without a stream is answered when its video is there, and not told to stream.
        models: What `GET /v1/models` lists.
        credit: What the keys may spend in all, in dollars; told by the billing routes, held by nobody.
        chat_model: Answers chats with a model that makes no videos, whatever its name; None knows no such model.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        duration: float = 6.0,
        speed: float = 1.0,
        keys: Collection[str] | None = None,
        formats: Collection[Format] | None = None,
        by_id: bool = False,
        idempotent: bool = False,
        list_key: Literal["task_responses", "tasks", "data"] = "task_responses",
        last_id_null: bool = False,
        actions_shape: Literal["map", "list"] = "map",
        url_lifetime: float = 6 * 86400.0,
        prefixed_ids: bool = False,
        videos_takes: Literal["both", "json", "multipart"] = "both",
        videos_sizes: Literal["any", "openai"] = "any",
        generations_answer: GenerationsAnswer = "documented",
        url_in_fail_reason: bool = False,
        chat_answer: ChatAnswer = "transcript",
        chat_failure: Literal["text", "error"] = "text",
        chat_whole: bool = False,
        models: Collection[str] = relay.MODELS,
        credit: Decimal | float = 100,
        chat_model: completions.ChatModel | None = None,
    ) -> None:
        if isinstance(keys, str):
            raise TypeError("keys is a collection of keys, not one string")
        if isinstance(formats, str) or not set(FORMATS) >= set(formats or ()):
            raise ValueError(f"formats={formats!r} was given; it is a collection of {', '.join(FORMATS)}")
        if not (_is_number(speed) and speed > 0):
            raise ValueError(f"speed={speed!r} was given; it is a number above 0")
        if not (_is_number(duration) and duration >= 0):
            raise ValueError(f"duration={duration!r} was given; it is seconds, at least 0")
        self.clock, self.duration, self.speed = clock, duration, speed
        self.keys = None if keys is None else frozenset(keys)
        self.formats = frozenset(FORMATS if formats is None else formats)
        self.by_id, self.idempotent, self.url_lifetime = by_id, idempotent, url_lifetime
        self.models, self.credit = tuple(models), Decimal(str(credit))
        self.chat_model = chat_model
        self.manners = Manners(
            list_key=list_key,
            last_id_null=last_id_null,
            actions_shape=actions_shape,
            prefixed_ids=prefixed_ids,
            videos_takes=videos_takes,
            videos_sizes=videos_sizes,
            generations_answer=generations_answer,
            url_in_fail_reason=url_in_fail_reason,
            chat_answer=chat_answer,
            chat_failure=chat_failure,
            chat_whole=chat_whole,
        )
        self.on_accept: Callable[[Task], None] | None = None
        """Told of each accepted task; where a sandbox puts its studio."""
        self._random = random.Random(seed)
        self._signer = Signer(self._random.randbytes(32))
        self._lock = threading.RLock()
        self._ids = TypeIds(clock, self._random)
        self.reset()

    def reset(self) -> None:
        """Forget every task, request and script; settings stay."""
        with self._lock:
            self._memory = Memory()
            self._requests: list[Received] = []
            self._scripts = Scripts()

    # ------------------------------------------------------------ what tests read and set

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Accepted tasks, oldest first; deleted ones are among them."""
        with self._lock:
            return self._memory.tasks

    @property
    def creates(self) -> int:
        """How many creates were accepted."""
        return len(self.tasks)

    @property
    def charged(self) -> Decimal:
        """What the accepted creates would have cost."""
        return sum((task.charge for task in self.tasks), Decimal(0))

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every request so far, oldest first."""
        with self._lock:
            return tuple(self._requests)

    @property
    def pending(self) -> tuple[tuple[str, str, int | None], ...]:
        """Scripts still to come, as (route, fault, how often; None is for ever)."""
        with self._lock:
            return self._scripts.pending()

    def script(self, route: str, fault: str, times: int | None = 1, **options: Any) -> None:
        """Let the next requests of a route go wrong; scripts of one route are used up in the order they were given.

        Args:
            route: `create`, `list`, `look`, `delete`, `download` or `models`, whatever the format; or `task` for how
                the next accepted tasks end.
            fault: A name of `faults.EVERY`, or of `faults.ENDINGS` for `task`.
            times: How many requests it befalls; None for all until `clear`.
            options: The fault's own, and `headers` (added to the answer) and `accept` (whether a create counts).

        Raises:
            ValueError: For anything unknown; the message names what is allowed.
        """
        with self._lock:
            self._scripts.add(route, fault, times, options)

    def clear(self) -> None:
        """Drop all scripts."""
        with self._lock:
            self._scripts = Scripts()

    def task(self, task_id: str, origin: str = "http://sandbox.invalid") -> dict[str, Any]:
        """The task as a look would show it now, invisible or not; it uses up nothing scripted.

        Raises:
            KeyError: When no such task was accepted.
        """
        with self._lock:
            return backend.task_body(self._view(self._memory[task_id], origin), self.manners)

    # ------------------------------------------------------------ news of the rendering

    def rendering(self, generation_id: str) -> None:
        """A generation's video is being made: its task will not succeed before it is there."""
        with self._lock:
            self._memory.rendering(generation_id)

    def rendered(self, generation_id: str, size: int | None) -> None:
        """A generation's video is there, `size` bytes long; None where it will be made when it is asked for."""
        with self._lock:
            self._memory.rendered(generation_id, size)

    def spoilt(self, generation_id: str) -> None:
        """A generation's video could not be made: its task fails."""
        with self._lock:
            self._memory.spoilt(generation_id)

    # ------------------------------------------------------------ requests

    def pictures(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Sequence[Source]:
        """The pictures a create names, each to be read before `receive`; none where it will be refused."""
        call = _call(method, path, None, headers, body)
        where = self._place(call)
        if where.route != "create" or len(body) > MAX_BODY or self._unauthorized(call):
            return ()
        try:
            order = SPOKEN[where.format].read_order(call, self.manners)
        except OrderError:
            return ()
        return [source for source in order.sources if source.picture]

    def receive(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        pictures: Mapping[Source, bytes | OrderError] | None = None,
    ) -> Answer:
        """Answer one request, and remember it.

        Args:
            method: As sent.
            path: Without the query.
            query: The query's parameters.
            headers: Names in any case.
            body: As sent.
            pictures: What each of `pictures` led to, or why it led nowhere.
        """
        call = _call(method, path, query, headers, body)
        with self._lock:
            where, before = self._place(call), len(self._memory)
            call = replace(call, format=where.format)
            script = self._scripts.take(where.route, redirected=REDIRECTED in call.query)
            answer = self._stamped(self._answer(where, call, pictures or {}, keep=script is None or script.accepts))
            if script:
                answer = self._stamped(faults.spoil(script.fault, answer, script.options, call))
            new = self._memory.tasks[-1].task_id if len(self._memory) > before else None
            fault = script.fault if script else None
            self._requests.append(received(call, where.route, answer, at=self.clock(), fault=fault, task_id=new))
            return answer

    def _place(self, call: Call) -> Place:
        if self.chat_model and completions.asked(call):
            return Place(route="completion")
        where = place(call)
        return where if where.format in {"", *self.formats} else Place()

    def _stamped(self, answer: Answer) -> Answer:
        return replace(answer, headers={"x-oneapi-request-id": self._request_id(), **answer.headers})

    def _answer(self, where: Place, call: Call, pictures: Pictures, *, keep: bool) -> Answer:
        if where.format == "" and where.route in {"download", "thumbnail"}:
            return self._signer.answer(call, self.clock())
        if where.route == "unknown" or (where.format, where.route, self.by_id) == ("backend", "look", False):
            return unknown_path(call)
        if refusal := self._unauthorized(call):
            return refusal
        match where.route:
            case "create":
                return self._create(where, call, pictures, keep=keep)
            case "list":
                return self._list(where, call)
            case "completion":
                assert self.chat_model
                return completions.answered(call, self.chat_model)
            case "models":
                return relay.models(self.models)
            case "billing":
                return relay.usage(self.charged) if where.name == "usage" else relay.subscription(self.credit)
            case _:
                return self._of_task(where, call, keep=keep)

    def _unauthorized(self, call: Call) -> Answer | None:
        key = bearer(call)
        if key is None:
            return error(401, "Missing bearer authentication in header")
        if self.keys is not None and key not in self.keys:
            message = f"无效的令牌 (request id: {self._request_id()})"
            return error(401, message, kind="new_api_error", param="", code="")
        return None

    def _request_id(self) -> str:
        stamp = datetime.fromtimestamp(self.clock(), UTC).strftime("%Y%m%d%H%M%S")
        return f"{stamp}{len(self._requests):08d}"

    # ------------------------------------------------------------ create

    def _create(self, where: Place, call: Call, pictures: Pictures, *, keep: bool) -> Answer:
        if len(call.body) > MAX_BODY:
            return body_too_large()
        spoken = SPOKEN[where.format]
        original = self._memory.find(where.name, self.clock()) if where.name else None
        if where.name and original is None:
            return videos.unknown_task()
        if original and not (view := self._view(original, call.origin)).videos:
            return videos.without_video(view)
        try:
            order = spoken.read_order(call, self.manners)
            if original:
                order = videos.remix(order, original)
            materials = self._materials(order, pictures)
        except OrderError as refusal:
            return spoken.refused(refusal)
        if where.format == "chat" and (said := chat.unavailable(call, self.manners)):
            return said
        key = call.headers.get("idempotency-key")
        task = self._memory.with_key(key) if self.idempotent else None
        if task is None:
            task = self._task(order, materials, keep=keep)
            if keep:
                self._memory.add(task, key)
                if self.on_accept:
                    self.on_accept(task)
        if where.format == "chat":
            return chat.answered(call, self._accepted(task), lambda: self._now(task, call), self.manners)
        return SHOWN[where.format].created(self._accepted(task), self.manners)

    def _materials(self, order: Order, pictures: Pictures) -> dict[Source, bytes | Generation]:
        """What an order is made of, found; a picture that nobody has read is left out.

        Raises:
            OrderError: For a picture that could not be read, and for a generation without a video.
        """
        materials: dict[Source, bytes | Generation] = {}
        for source in order.sources:
            if source.generation_id is not None:
                materials[source] = self._finished(source, source.generation_id)
            elif (picture := pictures.get(source)) is not None:
                if isinstance(picture, OrderError):
                    raise picture
                materials[source] = picture
        return materials

    def _finished(self, source: Source, generation_id: str) -> Generation:
        refused = f"Invalid value for '{source.where}': generation {shown(generation_id)}"
        made = self._memory.generation(generation_id, self.clock())
        if made is None:
            raise OrderError(source.where, f"{refused} was not found.", "generation_not_found")
        view = self._view(made.task, "")
        if not view.videos:
            message = f"{refused} has no video, its task is {view.status}."
            raise OrderError(source.where, message, "generation_not_ready")
        if source.first >= view.order.n_frames:
            message = f"{refused} has {view.order.n_frames} frames; {source.first}, counted from 0, is past its end."
            raise OrderError(source.where, message, "out_of_range")
        return made

    def _task(self, order: Order, materials: Mapping[Source, bytes | Generation], *, keep: bool) -> Task:
        ending = self._scripts.take("task") if keep else None
        task_id = self._ids.new("task")
        return Task(
            task_id=task_id,
            generation_ids=tuple(self._ids.new("gen") for _ in range(order.n_variants)),
            order=order,
            created_at=self.clock(),
            seed=self._random.randrange(2**31) if order.seed is None else order.seed,
            charge=price(order),
            materials=materials,
            ending=ending.fault if ending else None,
            ending_options=ending.options if ending else {},
        )

    # ------------------------------------------------------------ list, look and what else is about a task

    def _list(self, where: Place, call: Call) -> Answer:
        lister = LISTED[where.format]
        try:
            past, limit, oldest_first = lister.read_page(call)
        except OrderError as refusal:
            return refusal.answer()
        tasks, has_more = self._memory.page(self.clock(), past=past, limit=limit, oldest_first=oldest_first)
        return lister.listed([self._shown(task, call) for task in tasks], self.manners, has_more=has_more)

    def _of_task(self, where: Place, call: Call, *, keep: bool) -> Answer:
        shown = SHOWN[where.format]
        task = self._memory.find(where.name, self.clock())
        if task is None:
            return shown.unknown_task()
        match where.route:
            case "look":
                return shown.looked(self._shown(task, call), self.manners)
            case "delete":
                if keep:
                    self._memory.delete(task)
                return videos.deleted(self._view(task, call.origin), self.manners)
            case _:
                return videos.content(self._shown(task, call), call)

    def _shown(self, task: Task, call: Call) -> View:
        view = self._view(task, call.origin)
        if view.videos:
            self._memory.show(task)
        return view

    # ------------------------------------------------------------ tasks as they are now

    def _accepted(self, task: Task) -> View:
        """A task in its first moment, which is when its create is answered."""
        return self._viewed(task, {"status": "queued"}, ())

    def _now(self, task: Task, call: Call) -> View:
        """A task for an answer that is still being written."""
        with self._lock:
            return self._shown(task, call)

    def _view(self, task: Task, origin: str) -> View:
        state = self._memory.state(task, now=self.clock(), seconds=self.duration / self.speed)
        empty = state["status"] != "succeeded" or task.ending in {"moderation_output", "no_output"}
        return self._viewed(task, state, () if empty else self._videos(task, origin))

    def _viewed(self, task: Task, state: Mapping[str, Any], made: Sequence[Video]) -> View:
        return View(task=task, state=state, videos=made, seconds=self.duration / self.speed, now=self.clock())

    def _videos(self, task: Task, origin: str) -> list[Video]:
        stale = task.ending == "expired_url" and not self._memory.was_shown(task)
        expires = self.clock() + (-60.0 if stale else self.url_lifetime)
        return self._memory.videos(task, lambda name: self._signer.url(origin, name, expires))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _call(
    method: str, path: str, query: Mapping[str, str] | None, headers: Mapping[str, str] | None, body: bytes
) -> Call:
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    return Call(method=method.upper(), path=path, query=dict(query or {}), headers=lowered, body=body)
