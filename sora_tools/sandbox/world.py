"""What the gateway remembers and how it behaves: a request in, an answer out.

Pure: no socket, no file, no thread of its own. Time comes from the injected clock, chance from a seed, and a task's
progress is a function of its age alone. Safe to call from several threads.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import re
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Literal
from urllib.parse import urlencode

from . import backend, faults
from .backend import Order, OrderError
from .messages import (
    Answer,
    Call,
    body_too_large,
    error,
    index_page,
    invalid_url,
    json_answer,
    storage_error,
    task_not_exist,
)
from .scripts import Script, Scripts
from .tasks import QUEUED, Task, TypeIds, price, progress

LOGGED_HEADERS = ("accept", "content-type", "idempotency-key", "if-range", "range", "user-agent", "x-request-id")
MAX_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Received:
    """One line of the request log. `status` is None where no HTTP reply was sent, `task_id` is a create's new task."""

    at: float
    method: str
    path: str
    query: Mapping[str, str]
    route: str
    headers: Mapping[str, str]
    authorized: bool
    body: Any
    fault: str | None
    status: int | None
    task_id: str | None


class World:
    """A gateway's memory and manners.

    Args:
        clock: Unix time in seconds.
        seed: Where ids, signatures and generation seeds come from.
        duration: Seconds from accepted to succeeded at speed 1, whatever the video.
        speed: How many times faster than that tasks go.
        keys: The bearer keys that are let in; None lets in any that is not empty.
        by_id: Whether `GET /sora/backend/video_gen/{task_id}` is served; most relays serve the list alone and
            answer here, as on any path they do not know, with their dashboard.
        idempotent: Whether a create whose `Idempotency-Key` was seen before answers with the first one's task.
        list_key: Where a list carries its tasks; `data` wraps each one in a `payload`.
        last_id_null: Whether `last_id` is always null.
        actions_shape: How storyboard actions are read back: by frame index (the web backend) or as they were sent.
        url_lifetime: Seconds a media URL works after the look that handed it out.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        duration: float = 6.0,
        speed: float = 1.0,
        keys: Collection[str] | None = None,
        by_id: bool = False,
        idempotent: bool = False,
        list_key: Literal["task_responses", "tasks", "data"] = "task_responses",
        last_id_null: bool = False,
        actions_shape: Literal["map", "list"] = "map",
        url_lifetime: float = 6 * 86400.0,
    ) -> None:
        if isinstance(keys, str):
            raise TypeError("keys is a collection of keys, not one string")
        if not (_is_number(speed) and speed > 0):
            raise ValueError(f"speed={speed!r} was given; it is a number above 0")
        if not (_is_number(duration) and duration >= 0):
            raise ValueError(f"duration={duration!r} was given; it is seconds, at least 0")
        self.clock, self.duration, self.speed = clock, duration, speed
        self.keys = None if keys is None else frozenset(keys)
        self.by_id, self.idempotent = by_id, idempotent
        self.list_key, self.last_id_null, self.actions_shape = list_key, last_id_null, actions_shape
        self.url_lifetime = url_lifetime
        self.on_accept: Callable[[Task], None] | None = None
        """Told of each accepted task; where a sandbox puts its studio."""
        self._random = random.Random(seed)
        self._secret = self._random.randbytes(32)
        self._lock = threading.RLock()
        self._ids = TypeIds(clock, self._random)
        self.reset()

    def reset(self) -> None:
        """Forget every task, request and script; settings stay."""
        with self._lock:
            self._tasks: dict[str, Task] = {}
            self._accepted: list[Task] = []
            self._requests: list[Received] = []
            self._scripts = Scripts()
            self._by_key: dict[str, str] = {}
            self._shown: set[str] = set()
            self._rendering: set[str] = set()
            self._spoilt: set[str] = set()
            self._sizes: dict[str, int | None] = {}

    # ------------------------------------------------------------ what tests read and set

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Accepted tasks, oldest first."""
        with self._lock:
            return tuple(self._accepted)

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
            route: `create`, `list`, `look`, `download`, or `task` for how the next accepted tasks end.
            fault: A name of `faults.FAULTS`, or of `faults.ENDINGS` for `task`.
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
            return self._task_body(self._tasks[task_id], origin)

    # ------------------------------------------------------------ news of the rendering

    def rendering(self, generation_id: str) -> None:
        """A generation's video is being made: its task will not succeed before it is there."""
        with self._lock:
            self._rendering.add(generation_id)

    def rendered(self, generation_id: str, size: int | None) -> None:
        """A generation's video is there, `size` bytes long; None where it will be made when it is asked for."""
        with self._lock:
            self._rendering.discard(generation_id)
            self._sizes[generation_id] = size

    def spoilt(self, generation_id: str) -> None:
        """A generation's video could not be made: its task fails."""
        with self._lock:
            self._rendering.discard(generation_id)
            self._spoilt.add(generation_id)

    # ------------------------------------------------------------ requests

    def receive(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        picture: bytes | OrderError | None = None,
    ) -> Answer:
        """Answer one request, and remember it.

        Args:
            method: As sent.
            path: Without the query.
            query: The query's parameters.
            headers: Names in any case.
            body: As sent.
            picture: What a create's inpaint URL led to, or why it led nowhere.
        """
        lowered = {name.lower(): value for name, value in (headers or {}).items()}
        call = Call(method=method.upper(), path=path, query=dict(query or {}), headers=lowered, body=body)
        with self._lock:
            route, before = _route(call), len(self._tasks)
            script = self._scripts.take(route, redirected=faults.REDIRECTED in call.query)
            answer = self._stamped(self._answer(route, call, picture, keep=script is None or script.accepts))
            if script:
                answer = self._stamped(faults.spoil(script.fault, answer, script.options, call))
            new = next(reversed(self._tasks)) if len(self._tasks) > before else None
            self._log(route, call, answer, script, new)
            return answer

    def _stamped(self, answer: Answer) -> Answer:
        return replace(answer, headers={"x-oneapi-request-id": self._request_id(), **answer.headers})

    def _answer(self, route: str, call: Call, picture: bytes | OrderError | None, *, keep: bool) -> Answer:
        if route in {"download", "thumbnail"}:
            return self._media(call)
        if route == "unknown" or (route == "look" and not self.by_id):
            return _unknown_path(call)
        if refusal := self._unauthorized(call):
            return refusal
        match route:
            case "create":
                return self._create(call, picture, keep=keep)
            case "list":
                return self._list(call)
            case _:
                return self._look(call)

    def _log(self, route: str, call: Call, answer: Answer, script: Script | None, task_id: str | None) -> None:
        self._requests.append(
            Received(
                at=self.clock(),
                method=call.method,
                path=call.path,
                query=call.query,
                route=route,
                headers={name: call.headers[name] for name in LOGGED_HEADERS if name in call.headers},
                authorized=_bearer(call) is not None,
                body=_parsed(call.body),
                fault=script.fault if script else None,
                status=None if answer.manner in {"hang", "reset", "close", "garbage"} else answer.status,
                task_id=task_id,
            )
        )

    def _unauthorized(self, call: Call) -> Answer | None:
        key = _bearer(call)
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

    def _create(self, call: Call, picture: bytes | OrderError | None, *, keep: bool) -> Answer:
        if len(call.body) > backend.MAX_BODY:
            return body_too_large()
        try:
            order = backend.read_order(call.body)
            if isinstance(picture, OrderError):
                raise picture
        except OrderError as refused:
            return refused.answer()
        key = call.headers.get("idempotency-key")
        if self.idempotent and key in self._by_key:
            return _created(self._by_key[key])
        task_id = self._ids.new("task")
        if keep:
            self._accept(task_id, order, picture)
            if key:
                self._by_key[key] = task_id
        return _created(task_id)

    def _accept(self, task_id: str, order: Order, opening: bytes | None) -> None:
        ending = self._scripts.take("task")
        task = Task(
            task_id=task_id,
            generation_ids=tuple(self._ids.new("gen") for _ in range(order.n_variants)),
            order=order,
            created_at=self.clock(),
            seed=self._random.randrange(2**31),
            charge=price(order),
            opening=opening,
            ending=ending.fault if ending else None,
            ending_options=ending.options if ending else {},
        )
        self._tasks[task_id] = task
        self._accepted.append(task)
        if self.on_accept:
            self.on_accept(task)

    # ------------------------------------------------------------ list and look

    def _list(self, call: Call) -> Answer:
        limit = call.query.get("limit") or "20"
        if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_PAGE:
            message = f"Invalid value for 'limit': expected a whole number from 1 to {MAX_PAGE}, got {limit[:40]!r}."
            return error(400, message, param="limit", code="invalid_value")
        before = call.query.get("before")
        found = (t for t in reversed(self._accepted) if self._visible(t) and (not before or t.task_id < before))
        page = [self._shown_task(task, call) for task in islice(found, int(limit))]
        last_id = page[-1]["id"] if page and not self.last_id_null else None
        entries = page if self.list_key != "data" else [{"ordering_key": t["created_at"], "payload": t} for t in page]
        return json_answer(200, {self.list_key: entries, "last_id": last_id, "has_more": next(found, None) is not None})

    def _look(self, call: Call) -> Answer:
        task = self._tasks.get(call.path.removeprefix(backend.PATH + "/"))
        if task is None or not self._visible(task):
            return task_not_exist()
        return json_answer(200, self._shown_task(task, call))

    def _shown_task(self, task: Task, call: Call) -> dict[str, Any]:
        body = self._task_body(task, call.origin)
        if body["generations"]:
            self._shown.add(task.task_id)
        return body

    def _visible(self, task: Task) -> bool:
        return task.ending != "invisible" or self.clock() - task.created_at >= task.ending_options["seconds"]

    def _task_body(self, task: Task, origin: str) -> dict[str, Any]:
        state = self._state(task)
        succeeded = state["status"] == "succeeded"
        rejected = succeeded and task.ending == "moderation_output"
        stopped = state["status"] == "failed" and task.ending == "moderation_input"
        return backend.task_body(
            task.order,
            task_id=task.task_id,
            created_at=task.created_at,
            progress={**state, "num_unsafe_generations": task.order.n_variants if rejected else 0},
            generations=self._generations(task, origin) if succeeded else [],
            moderation=backend.moderation_result(
                task.task_id, "terminal" if rejected or stopped else "passed", output_rejected=rejected
            ),
            actions_as_map=self.actions_shape == "map",
        )

    def _state(self, task: Task) -> dict[str, Any]:
        seconds = self.duration / self.speed
        videos = set(task.generation_ids)
        return progress(
            task,
            age=self.clock() - task.created_at,
            seconds=seconds,
            ahead=self._ahead(task, self.clock() - QUEUED * seconds),
            rendering=not videos.isdisjoint(self._rendering),
            spoilt=not videos.isdisjoint(self._spoilt),
        )

    def _ahead(self, task: Task, since: float) -> int:
        """How many tasks accepted before this one, and after `since`, are in the queue."""
        first = bisect_right(self._accepted, since, key=lambda other: other.created_at)
        return max(0, bisect_left(self._accepted, task.task_id, key=lambda other: other.task_id) - first)

    def _generations(self, task: Task, origin: str) -> list[dict[str, Any]]:
        if task.ending in {"moderation_output", "no_output"}:
            return []
        stale = task.ending == "expired_url" and task.task_id not in self._shown
        expires = self.clock() + (-60.0 if stale else self.url_lifetime)
        return [
            backend.generation_body(
                task.order,
                task_id=task.task_id,
                generation_id=generation_id,
                created_at=task.created_at + self.duration / self.speed,
                seed=(task.seed + variant) % 2**31,
                url=self._signed(origin, f"{generation_id}.mp4", expires),
                thumbnail_url=self._signed(origin, f"{generation_id}.png", expires),
                size=self._sizes.get(generation_id),
                moderation=backend.moderation_result(task.task_id),
                actions_as_map=self.actions_shape == "map",
            )
            for variant, generation_id in enumerate(task.generation_ids)
        ]

    # ------------------------------------------------------------ media

    def _signed(self, origin: str, name: str, expires: float) -> str:
        stamp = backend.iso(expires)
        query = urlencode({"se": stamp, "sig": self._signature(name, stamp)})
        return f"{origin}/media/{name}?{query}"

    def _signature(self, name: str, expires: str) -> str:
        digest = hmac.new(self._secret, f"{name}\n{expires}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _media(self, call: Call) -> Answer:
        name = call.path.removeprefix("/media/")
        expires = call.query.get("se", "")
        if not hmac.compare_digest(call.query.get("sig", "").encode(), self._signature(name, expires).encode()):
            return storage_error("Signature did not match")
        if expires < backend.iso(self.clock()):
            return storage_error(f"Signature not valid in the specified time frame: Expiry [{expires}]")
        return Answer(media=name)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _route(call: Call) -> str:
    """Which of the gateway's routes a request is for; methods a route has not count as unknown, as in one-api."""
    path, get = call.path, call.method == "GET"
    if path == backend.PATH:
        return {"POST": "create", "GET": "list"}.get(call.method, "unknown")
    if get and path.startswith(f"{backend.PATH}/"):
        return "look"
    if path.startswith("/media/") and call.method in {"GET", "HEAD"}:
        return "download" if path.endswith(".mp4") else "thumbnail"
    return "unknown"


def _unknown_path(call: Call) -> Answer:
    if call.path.startswith(("/v1", "/api", "/assets")):
        return invalid_url(call)
    return index_page()


def _created(task_id: str) -> Answer:
    return json_answer(200, {"id": task_id, "priority": 1, "rate_limit_and_credit_balance": None})


def _bearer(call: Call) -> str | None:
    scheme, _, key = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return key.strip() or None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
