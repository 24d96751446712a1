"""What every format must do, and what each is known to answer.

A folder of ``samples`` for each format, a file for each reply that some gateway, or its documents or its client, was
seen to give. ``expect`` is what must be found of the task, nested members and all; ``error`` the same of an error.
A new format is one module, one folder of samples, and one line in ``dialects/__init__.py``; all of this holds for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hostile_replies import REPLIES, UNKNOWN
from hostile_replies import T as TASK
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_tools.dialects import DIALECTS, dialect
from sora_tools.dialects.reading import status_of, usable
from sora_tools.errors import ConfigurationError, SoraError
from sora_tools.schemas import TaskPage, VideoRequest, VideoTask
from sora_tools.wire import Call, Reply

SAMPLES = Path(__file__).parent / "samples"
NAMES = sorted(DIALECTS)
REQUEST = VideoRequest(prompt="a man who flies", model="sora-2")
NEED_NO_MODEL = {"backend", "videos"}
"""Formats in which a gateway may have a model of its own."""

OTHER = [None, [], {}, True, -1, 0.5, 10**400, "", "odd", ["odd"], {"odd": None}]
"""What may stand where something else was documented."""


class Sample:
    """One recorded reply and what it must be read as."""

    def __init__(self, path: Path) -> None:
        self.dialect, self.name = path.parent.name, path.stem
        self.told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.route: str = self.told["route"]
        self.task_id: str = self.told.get("task_id", "")
        self.body: Any = self.told.get("body")
        self.expect: dict[str, Any] | None = self.told.get("expect")

    @property
    def says(self) -> str | None:
        """What its own word for the status means, where that was to be found."""
        expect = self.expect or {}
        return status_of(expect["raw_status"]) if "raw_status" in expect else expect.get("status")

    def reply(self, body: Any = None, status: int | None = None) -> Reply:
        content = self.told["text"] if "text" in self.told else json.dumps(self.body if body is None else body)
        return Reply(status or self.told["status"], self.told["headers"], content.encode())

    def read(self, body: Any = None, status: int | None = None) -> VideoTask | TaskPage:
        return call(self.dialect, self.route, self.task_id).read(self.reply(body, status))


def call(name: str, route: str, task_id: str = "task_1") -> Call[Any]:
    format_ = dialect(name)
    calls = {
        "create": lambda: format_.create(REQUEST, "key-1"),
        "look": lambda: format_.look(task_id),
        "list": lambda: format_.list(10, None),
    }
    made = calls[route]()
    assert made is not None, f"the {name} format has no {route}"
    return made


def served(name: str) -> list[str]:
    """The routes a format has."""
    return [
        "create",
        *(["look"] if dialect(name).look("task_1") else []),
        *(["list"] if dialect(name).list(1, None) else []),
    ]


ALL = [Sample(path) for path in sorted(SAMPLES.glob("*/*.json"))]
TASKS = [sample for sample in ALL if sample.expect is not None]


def each(samples: list[Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", samples, ids=[f"{sample.dialect}/{sample.name}" for sample in samples])


def every(function: Any) -> Any:
    return pytest.mark.parametrize("name", NAMES)(function)


def looking(function: Any) -> Any:
    """For the formats in which a task can be looked up."""
    return pytest.mark.parametrize("name", [name for name in NAMES if "look" in served(name)])(function)


def differences(expected: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where what was found is not what was expected; what nobody expects anything of may be anything."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            yield from differences(value, found.get(name, "nothing"), f"{path}.{name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, value in enumerate(expected):
            yield from differences(value, found[index], f"{path}[{index}]")
    elif expected != found:
        yield f"{path}: {found!r} instead of {expected!r}"


def paths(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every member of a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each_ in inner:
        yield (*way, step)
        yield from paths(each_, (*way, step))


def mutations(body: Any) -> Iterator[Any]:
    """A body with each of its members left out, and with each of another kind."""
    for *way, last in paths(body):
        for other in ["left out", *OTHER]:
            mutated = holder = deepcopy(body)
            for step in way:
                holder = holder[step]
            if other == "left out":
                del holder[last]
            else:
                holder[last] = other
            yield mutated


def hold(task: VideoTask, name: str) -> None:
    """What every task promises, however it was worded."""
    assert task.task_id.strip()
    assert task.dialect == name
    addresses = [generation.url for generation in task.generations if generation.url is not None]
    assert all(usable(url) == url for url in addresses)
    assert task.status != "succeeded" or addresses
    assert (task.failure is not None) == (task.status in ("failed", "cancelled"))
    assert task.failure is None or (task.failure.message and task.generations == ())
    assert task.progress is None or 0 <= task.progress <= 1
    assert task.created_at is None or task.created_at.utcoffset() is not None
    bare = task.model_copy(update={"raw": {}})
    assert VideoTask.model_validate_json(bare.model_dump_json()) == bare
    json.dumps(task.raw, ensure_ascii=False).encode()


def outcome(name: str, route: str, reply: Reply, task_id: str = "task_1") -> VideoTask | TaskPage | SoraError:
    """What a reply is read as, be it a typed error, and nothing but that."""
    try:
        found = call(name, route, task_id).read(reply)
    except SoraError as error:
        return error
    for task in found.tasks if isinstance(found, TaskPage) else [found]:
        hold(task, name)
    return found


class TestSamples:
    """Each recorded reply."""

    @each(ALL)
    def test_reads_as_it_says(self, sample: Sample) -> None:
        assert sample.told["source"]
        ended = outcome(sample.dialect, sample.route, sample.reply(), sample.task_id)
        if "error" in sample.told:
            assert isinstance(ended, SoraError), ended
            assert not [*differences(sample.told["error"], ended.describe())]
        else:
            assert not isinstance(ended, SoraError), ended
            assert not [*differences(sample.expect, ended.model_dump(mode="json"))]

    @each([sample for sample in TASKS if sample.route != "list" and sample.body is not None])
    def test_keeps_the_gateways_own_object(self, sample: Sample) -> None:
        task = sample.read()
        assert isinstance(task, VideoTask)
        bodies = [sample.body, *(value_at(sample.body, way) for way in paths(sample.body))]
        assert task.raw
        assert task.raw in bodies

    @each([sample for sample in ALL if sample.body is not None])
    def test_may_lack_any_member_or_have_it_of_another_kind(self, sample: Sample) -> None:
        accepted = sample.route == "create" and sample.expect is not None
        for body in mutations(sample.body):
            ended = outcome(sample.dialect, sample.route, sample.reply(body), sample.task_id)
            if accepted and isinstance(ended, SoraError):
                assert ended.charged == "unknown", (body, ended)

    @each([sample for sample in TASKS if sample.route == "create" and sample.body is not None])
    def test_is_accepted_by_its_id_alone(self, sample: Sample) -> None:
        task = sample.read()
        assert isinstance(task, VideoTask)
        for *way, last in paths(sample.body):
            body = deepcopy(sample.body)
            held = value_at(body, way)
            if task.task_id in json.dumps(held.pop(last)):
                continue
            found = sample.read(body)
            assert isinstance(found, VideoTask)
            assert found.task_id == task.task_id

    @each([sample for sample in TASKS if sample.route == "look"])
    def test_answers_for_no_other_task(self, sample: Sample) -> None:
        ended = outcome(sample.dialect, "look", sample.reply(), "task_of_somebody_else")
        assert isinstance(ended, SoraError)
        assert ended.charged != "yes"

    @each([sample for sample in TASKS if sample.route == "look" and sample.says == "failed"])
    @pytest.mark.parametrize("status", [400, 422, 500])
    def test_is_a_failed_task_whatever_the_status_it_comes_with(self, sample: Sample, status: int) -> None:
        task = sample.read(status=status)
        assert isinstance(task, VideoTask)
        assert not [*differences(sample.expect, task.model_dump(mode="json"))]


def value_at(value: Any, way: Any) -> Any:
    for step in way:
        value = value[step]
    return value


# --- what needs no sample ----------------------------------------------------------------------------------------

MEMBERS = sorted({step for sample in ALL for way in paths(sample.body) for step in way if isinstance(step, str)})
SEEN = [
    value
    for sample in ALL
    for way in paths(sample.body)
    if not isinstance(value := value_at(sample.body, way), dict | list)
]
SCALARS = (
    st.sampled_from([*SEEN, *OTHER, "task_1"]) | st.floats() | st.text(st.characters(exclude_categories=()), max_size=8)
)
KEYS = st.sampled_from(MEMBERS) | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)
PAGE = b'<!doctype html><html lang="zh"><title>New API</title></html>'
UNCLEAR = {
    "empty": b"",
    "blank": b" \n",
    "nothing": b"{}",
    "null": b"null",
    "list": b"[]",
    "cut": b'{"id": "task_1", "stat',
    "word": b"OK",
    "empty result": b'{"code": "success", "message": "", "data": null}',
    "odd id": b'{"id": true, "task_id": " "}',
    "page": PAGE,
}


class TestEveryFormat:
    """What holds whatever a format is like."""

    def test_has_a_folder_of_samples(self) -> None:
        assert sorted(path.name for path in SAMPLES.iterdir()) == NAMES

    @every
    def test_is_found_by_its_name(self, name: str) -> None:
        assert dialect(f" {name.upper()} ").name == name

    @every
    def test_has_samples_of_all_that_a_caller_acts_on(self, name: str) -> None:
        mine = [sample for sample in ALL if sample.dialect == name]
        assert {sample.route for sample in mine} == set(served(name))
        told = "create" if dialect(name).tells_once else "look"  # the answer that says how a task ended
        ends = {sample.expect["status"] for sample in mine if sample.expect is not None and sample.route == told}
        meanwhile = set() if dialect(name).tells_once else {"queued", "running"}
        assert {"succeeded", "failed"} | meanwhile <= ends
        assert any("error" in sample.told for sample in mine if sample.route == "create")

    @every
    def test_sends_the_prompt_the_model_and_the_key(self, name: str) -> None:
        made = call(name, "create")
        assert (made.route, made.method, made.paid) == ("create", "POST", True)
        sent = json.dumps(made.body)
        assert "a man who flies" in sent
        assert "sora-2" in sent
        assert made.headers["Idempotency-Key"] == "key-1"

    @every
    def test_sends_the_operators_own_members_over_everything(self, name: str) -> None:
        request = REQUEST.model_copy(update={"extra": {"watermark": False}})
        made = dialect(name).create(request, "key-1")
        assert made.body is not None
        assert made.body["watermark"] is False

    @every
    def test_sends_nothing_that_costs_money_but_a_create(self, name: str) -> None:
        for route in served(name)[1:]:
            made = call(name, route)
            assert (made.method, made.paid, made.body) == ("GET", False, None)

    @every
    def test_without_a_model_it_says_where_to_set_one_or_needs_none(self, name: str) -> None:
        request = VideoRequest(prompt="a man who flies")
        if dialect(name).tells_once:
            assert (dialect(name).create(request, "key-1").body or {})["model"], "the name says size and length"
            return
        if name in NEED_NO_MODEL:
            assert "model" not in (dialect(name).create(request, "key-1").body or {})
            return
        with pytest.raises(ConfigurationError, match="SORA_MODEL") as caught:
            dialect(name).create(request, "key-1")
        assert caught.value.charged == "no"

    @looking
    @pytest.mark.parametrize("task_id", ["task_1", "sora-2:task_01k6redacted", "a/../b?c=d&e#f%41", "任务 1"])
    def test_keeps_an_id_whole_on_its_way(self, name: str, task_id: str) -> None:
        made = call(name, "look", task_id)
        if task_id in made.query.values():  # encoded by whoever writes the address
            assert "task" not in made.path
            return
        segment = made.path.rpartition("/")[2]
        assert unquote(segment) == task_id
        assert not set(segment) & set(":/?#&= ")

    @looking
    @pytest.mark.parametrize("task_id", ["", " ", ".", ".."])
    def test_refuses_an_id_that_nothing_has(self, name: str, task_id: str) -> None:
        with pytest.raises(SoraError, match="was given; give the id that the create returned"):
            call(name, "look", task_id)

    @every
    @pytest.mark.parametrize("body", UNCLEAR.values(), ids=UNCLEAR)
    @pytest.mark.parametrize("status", [200, 202])
    def test_never_calls_an_unclear_create_uncharged(self, name: str, body: bytes, status: int) -> None:
        ended = outcome(name, "create", Reply(status, {}, body))
        assert isinstance(ended, SoraError), ended
        assert ended.charged == "unknown"

    @every
    @pytest.mark.parametrize("status", [500, 502, 504, 520, 524, 408])
    def test_never_calls_a_create_that_broke_uncharged(self, name: str, status: int) -> None:
        for body in (b"", PAGE, b'{"error": {"message": "upstream error", "type": "server_error"}}'):
            ended = outcome(name, "create", Reply(status, {}, body))
            assert isinstance(ended, SoraError), ended
            assert ended.charged == "unknown"

    @every
    @pytest.mark.parametrize("status", [200, 404, 503])
    def test_a_page_for_people_is_no_task(self, name: str, status: int) -> None:
        for route in served(name):
            ended = outcome(name, route, Reply(status, {"content-type": "text/html"}, PAGE))
            assert isinstance(ended, SoraError), ended
            assert ended.code != "task_not_found"

    @every
    def test_a_create_that_names_a_task_and_an_error_keeps_the_id(self, name: str) -> None:
        body = json.dumps({"id": "task_1", "error": {"message": "later"}}).encode()
        for status in (200, 400, 503):
            ended = outcome(name, "create", Reply(status, {}, body))
            if isinstance(ended, SoraError):
                assert (ended.task_id, ended.charged) == ("task_1", "unknown")
            else:
                assert isinstance(ended, VideoTask)
                assert ended.task_id == "task_1"

    @every
    def test_says_what_it_makes_other_than_asked(self, name: str) -> None:
        for n_frames in (1, 150, 151, 10_000):
            request = REQUEST.model_copy(update={"n_frames": n_frames, "width": 333, "height": 777})
            told = dialect(name).adjusted(request)
            assert all(sentence.partition(":")[2] and sentence.isprintable() for sentence in told)
            body = dialect(name).create(request, "key-1").body or {}
            lengths = [n_frames, n_frames / 30, f"{n_frames / 30:g}"]
            as_asked = any(value in lengths for value in body.values()) and {"333", "777"} <= set(
                re.findall(r"\d+", json.dumps(body))
            )
            assert as_asked or told, "what is not sent as it was asked for is told"

    @every
    def test_what_it_makes_is_what_it_tells(self, name: str) -> None:
        """Prices and limits go by the one, people by the other."""
        for n_frames in (1, 150, 151, 10_000):
            for width, height in ((333, 777), (854, 480), (1, 1)):
                request = REQUEST.model_copy(update={"n_frames": n_frames, "width": width, "height": height})
                made = dialect(name).made(request)
                assert made is not None
                assert made.prompt == request.prompt
                as_asked = (made.width, made.height, made.n_frames) == (width, height, n_frames)
                assert as_asked or dialect(name).adjusted(request)

    @every
    def test_no_hostile_reply_breaks_it_or_is_called_uncharged(self, name: str) -> None:
        for hostile in REPLIES:
            if len(hostile.content) > 2**20:
                continue
            reply = Reply(hostile.status, hostile.headers, hostile.content)
            for route in served(name):
                ended = outcome(name, route, reply, TASK)
                if route == "create" and hostile.create == UNKNOWN and isinstance(ended, SoraError):
                    shown = ("yes",) if dialect(name).tells_once else ()  # a task that showed itself in the answer
                    assert ended.charged in ("unknown", *shown), (hostile.family, hostile.name, ended)

    @every
    @settings(max_examples=150, deadline=None)
    @given(body=JSON, status=st.sampled_from([200, 202, 400, 404, 500, 503]))
    def test_reads_any_json_or_says_that_it_cannot(self, name: str, body: Any, status: int) -> None:
        for route in served(name):
            outcome(name, route, Reply(status, {}, json.dumps(body).encode()))

    @every
    @settings(max_examples=100, deadline=None)
    @given(body=st.binary(max_size=64), status=st.integers(200, 599))
    def test_reads_no_task_out_of_any_bytes(self, name: str, body: bytes, status: int) -> None:
        for route in served(name):
            assert isinstance(outcome(name, route, Reply(status, {}, body)), SoraError)
