"""No state of a tool makes a provider's converter choke, and no checkpoint changes what was answered.

Each state is a whole conversation of an agent, held over a fake gateway and saved in SQLite. Nothing here may open a
socket: a converter that fetches an address would.
"""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest
from fake_gateway import KEY, MP4, PROMPT, VIDEO, FakeGateway, task
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.content import create_image_block, create_text_block, create_video_block
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command
from PIL import Image
from scripted_model import scripted

from sora_tools import (
    Failure,
    Generation,
    InvalidRequestError,
    QueryVideoTool,
    SoraError,
    SoraToolkit,
    VideoTask,
    content_blocks,
    errors,
)
from sora_tools.schemas import RequestEcho

pytestmark = pytest.mark.usefixtures("no_sockets")


# --- every state -------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """How to bring a tool to answer so.

    Attributes:
        gateway: What it is asked of.
        calls: The model's.
        settings: The toolkit's.
        error: What every query ends in.
        decision: What a human makes of the first call.
    """

    gateway: Callable[[], FakeGateway]
    calls: list[Any]
    settings: Mapping[str, Any] = MappingProxyType({})
    error: SoraError | None = None
    decision: dict[str, Any] | None = None


CREATE, QUERY = ("create_video", PROMPT), ("query_video", {"task_id": "task_1"})
LIST = ("query_video", {})
REFUSED = {"error": {"message": "Your prompt violates our content policy.", "code": "content_policy_violation"}}
CONTENT = {"id": "task_1", "object": "video", "status": "completed", "progress": 100, "prompt": "fly man"}


def looked(status: str, **more: Any) -> State:
    return State(lambda: FakeGateway(tasks=[task(status, **more)]), [QUERY], {"max_wait": 0})


def every_error() -> Iterator[tuple[str, SoraError]]:
    """One of each code, with all that an error can know."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, SoraError) and kind is not SoraError:
            known = {
                "retry_after": 1.5,
                "http_status": 503,
                "request_id": "req_1",
                "task_id": "task_1",
                "key": "k" * 64,
            }
            yield kind.code, kind("The gateway said “稍后再试”.", hint="Look again later.", **known)


def privately(request: httpx.Request) -> httpx.Response:
    """A gateway whose videos open with the key alone."""
    assert request.method == "GET"
    return httpx.Response(200, json=CONTENT)


EDITED = {
    "type": "edit",
    "edited_action": {"name": "create_video", "args": {**PROMPT, "n_frames": 60}},
}
STATES: dict[str, State] = {
    "queued": State(FakeGateway, [CREATE]),
    "hints": State(FakeGateway, [("create_video", {**PROMPT, "operation": "remix"})]),
    "reused": State(FakeGateway, [CREATE, CREATE]),
    "rejected arguments": State(FakeGateway, [("create_video", {"seconds": 4})]),
    "rejected look": State(FakeGateway, [("query_video", {"limit": 0})]),
    "refused": State(lambda: FakeGateway(httpx.Response(400, json=REFUSED)), [CREATE]),
    "unknown fate": State(lambda: FakeGateway(httpx.ReadTimeout("late")), [CREATE, LIST]),
    "in the queue": looked("queued", progress_pos_in_queue=3, estimated_queue_wait_time=60),
    "running": looked("running"),
    "unknown word": looked("grilling"),
    "public": looked("succeeded"),
    "private": State(FakeGateway, [QUERY], {"dialect": "videos", "transport": httpx.MockTransport(privately)}),
    "saved": State(lambda: FakeGateway(tasks=[task()]), [CREATE, QUERY], {"download_dir": "videos"}),
    "not saved": State(
        lambda: FakeGateway(tasks=[task()], video=httpx.Response(403)), [QUERY], {"download_dir": "others"}
    ),
    "failed": looked("failed", failure_reason="提示词违规\u2028\ud800"),
    "moderated": looked("failed", failure_reason="content policy"),
    "cancelled": looked("cancelled"),
    "not found": State(FakeGateway, [QUERY], {"max_wait": 0}),
    "list": State(FakeGateway, [CREATE, LIST]),
    "empty list": State(FakeGateway, [LIST]),
    "account": State(lambda: FakeGateway(tasks=[task(), task("running", "task_2")]), [LIST], {"list_account": True}),
    "approved": State(FakeGateway, [CREATE], decision={"type": "approve"}),
    "edited": State(FakeGateway, [CREATE], decision=EDITED),
    "declined": State(FakeGateway, [CREATE], decision={"type": "reject"}),
    **{f"error {code}": State(FakeGateway, [QUERY], error=error) for code, error in every_error()},
}


class Failing(QueryVideoTool):
    """Ends in one error, whatever it is asked."""

    error: Any

    def _conversation(self, *_: Any, **__: Any) -> Any:
        yield from ()
        raise self.error


HERE: Any = {"configurable": {"thread_id": "thread_1"}}


def agent(state: State, saver: Any) -> Any:
    toolkit = SoraToolkit(**{**state.gateway().settings(), **state.settings})
    tools = toolkit.get_tools()
    if state.error is not None:
        tools[1] = Failing(error=state.error, sora=toolkit.sora, async_sora=toolkit.async_sora)
    human = [HumanInTheLoopMiddleware(interrupt_on={"create_video": True})] if state.decision else []
    return create_agent(scripted(state.calls), tools, middleware=human, checkpointer=saver)


def asked(state: State) -> list[Any]:
    """What such an agent is invoked with, in turn."""
    decided = [Command(resume={"decisions": [state.decision]})] if state.decision else []
    return [{"messages": [("user", "Make a video of a man who flies.")]}, *decided]


def held(state: State, path: Path) -> list[BaseMessage]:
    with SqliteSaver.from_conn_string(str(path)) as saver:
        talking = agent(state, saver)
        return [talking.invoke(given, HERE) for given in asked(state)][-1]["messages"]


async def held_async(state: State, path: Path) -> list[BaseMessage]:
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        talking = agent(state, saver)
        return [await talking.ainvoke(given, HERE) for given in asked(state)][-1]["messages"]


def kept(state: State, path: Path) -> list[BaseMessage]:
    """The conversation as another process reads it from the file."""
    with SqliteSaver.from_conn_string(str(path)) as saver:
        return agent(state, saver).get_state(HERE).values["messages"]


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "checkpoints.sqlite"


def answers(messages: list[BaseMessage]) -> list[ToolMessage]:
    return [message for message in messages if isinstance(message, ToolMessage)]


# --- conversion --------------------------------------------------------------------------------------------------


def openai_chat(messages: list[BaseMessage]) -> Any:
    return ChatOpenAI(model="gpt-5", api_key=KEY)._get_request_payload(messages)["messages"]


def openai_responses(messages: list[BaseMessage]) -> Any:
    return ChatOpenAI(model="gpt-5", api_key=KEY, use_responses_api=True)._get_request_payload(messages)["input"]


def anthropic(messages: list[BaseMessage]) -> Any:
    return ChatAnthropic(model="claude-sonnet-4-5", api_key=KEY)._get_request_payload(messages)["messages"]


def gemini(messages: list[BaseMessage]) -> Any:
    request = ChatGoogleGenerativeAI(model="gemini-3-pro", api_key=KEY)._prepare_request(messages)
    return [content.model_dump(mode="json", exclude_none=True, warnings=False) for content in request["contents"]]


def ollama(messages: list[BaseMessage]) -> Any:
    return ChatOllama(model="qwen3")._chat_params(messages)["messages"]


PROVIDERS = {convert.__name__: convert for convert in (openai_chat, openai_responses, anthropic, gemini, ollama)}


def parts(payload: Any) -> Iterator[Any]:
    """Every text and every object of a payload."""
    if isinstance(payload, str | dict):
        yield payload
    for member in payload.values() if isinstance(payload, dict) else payload if isinstance(payload, list) else ():
        yield from parts(member)


def carried(payload: Any, content: str) -> bool:
    """Whether a payload has a tool's answer whole, as text or as the object that the text is."""
    try:
        spelt = [content, json.loads(content)]
    except ValueError:
        spelt = [content]
    return any(part in spelt for part in parts(payload))


@pytest.mark.parametrize("name", STATES)
def test_check_06_every_state_converts_for_every_provider(name: str, in_a_folder: Path) -> None:
    state = STATES[name]
    held(state, in_a_folder)
    messages = kept(state, in_a_folder)
    tools = answers(messages)
    assert len(tools) == len(state.calls)
    assert all(isinstance(message.content, str) for message in tools)
    for provider, convert in PROVIDERS.items():
        payload = json.loads(json.dumps(convert(messages), ensure_ascii=False).encode())
        for message in tools:
            assert carried(payload, message.content), provider
    failing = [part for part in parts(anthropic(messages)) if isinstance(part, dict) and part.get("is_error")]
    assert len(failing) == sum(message.status == "error" for message in tools)


def test_check_06_the_states_are_the_ones_they_are_named_for(in_a_folder: Path) -> None:
    def said(name: str) -> str:
        path = in_a_folder.with_name(f"{name}.sqlite")
        return answers(held(STATES[name], path))[-1].text

    assert json.loads(said("queued"))["status"] == "queued"
    assert json.loads(said("hints"))["hints"]
    assert json.loads(said("reused"))["reused"] is True
    assert json.loads(said("in the queue"))["queue_position"] == 3
    for name, status in (("running", "running"), ("unknown word", "unknown"), ("cancelled", "cancelled")):
        assert json.loads(said(name))["status"] == status
    assert json.loads(said("public"))["videos"][0]["url"] == VIDEO
    assert "not public" in json.loads(said("private"))["next"]
    assert Path(json.loads(said("saved"))["videos"][0]["file"]).read_bytes() == MP4
    assert json.loads(said("not saved"))["error"]["code"] == "download_failed"
    assert "提示词违规" in json.loads(said("failed"))["error"]["message"]
    assert json.loads(said("moderated"))["error"]["kind"].startswith("moderation")
    assert json.loads(said("not found"))["error"]["code"] == "task_not_found"
    assert json.loads(said("unknown fate"))["tasks"][0]["state"] == "unsure"
    assert [len(json.loads(said(name))["tasks"]) for name in ("list", "empty list", "account")] == [1, 0, 2]
    assert json.loads(said("rejected arguments"))["error"]["code"] == "invalid_request"
    edited = said("edited")
    assert "task_1" in edited
    with pytest.raises(ValueError, match=r"Extra data|Expecting"):
        json.loads(edited)  # the notice stands with the answer: programs read the artifact
    assert {json.loads(said(name))["error"]["code"] for name in STATES if name.startswith("error ")} == {
        code for code, _ in every_error()
    }


# --- checkpoints -------------------------------------------------------------------------------------------------


def plain(value: Any) -> bool:
    """Whether a value is JSON's own, and not something that looks like it."""
    if type(value) is dict:
        return all(type(name) is str and plain(member) for name, member in value.items())
    return all(map(plain, value)) if type(value) is list else type(value) in (str, int, float, bool, type(None))


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("name", STATES)
def test_check_08_what_was_answered_survives_a_checkpoint(name: str, colour: str, in_a_folder: Path) -> None:
    state = STATES[name]
    messages = held(state, in_a_folder) if colour == "sync" else asyncio.run(held_async(state, in_a_folder))
    serializer = JsonPlusSerializer()
    for message in answers(messages):
        artifact = message.artifact
        assert (artifact is None) == (message.status == "error"), "an error has none"
        assert plain(artifact)
        assert json.loads(json.dumps(artifact, allow_nan=False)) == artifact
        again = serializer.loads_typed(serializer.dumps_typed(artifact))
        assert again == artifact
        assert plain(again)
        assert KEY not in json.dumps(artifact)
    saved = kept(state, in_a_folder)
    assert saved == messages
    assert all(map(plain, (message.artifact for message in answers(saved))))


# --- content blocks ----------------------------------------------------------------------------------------------

TASK = VideoTask(
    task_id="task_1",
    status="succeeded",
    generations=(Generation(url=VIDEO, width=854, height=480, duration=5.0),),
    request=RequestEcho(prompt="fly man"),
)


def standard(make: Callable[..., Any], *given: Any, **named: Any) -> dict[str, Any]:
    """A block as langchain_core makes it, but for its random id."""
    return {name: value for name, value in make(*given, **named).items() if name != "id"}


def encoded(data: bytes) -> str:
    return b64encode(data).decode()


def picture(kind: str = "PNG") -> bytes:
    written = BytesIO()
    Image.new("RGB", (8, 8), "teal").save(written, kind)
    return written.getvalue()


def with_generation(**changes: Any) -> VideoTask:
    return TASK.model_copy(update={"generations": (TASK.generations[0].model_copy(update=changes),)})


def test_blocks_are_the_standard_ones_as_plain_dicts():
    blocks = content_blocks(TASK, [picture()])
    words = (
        'Video task task_1: succeeded. Its prompt: "fly man". Video 1: 854x480, 5 s; it follows. Frames that follow: 1.'
    )
    assert blocks == [
        standard(create_text_block, words),
        standard(create_video_block, url=VIDEO, mime_type="video/mp4"),
        standard(create_image_block, base64=encoded(picture()), mime_type="image/png"),
    ]
    assert plain(blocks)
    assert HumanMessage(content_blocks=blocks).content_blocks == blocks


@pytest.mark.parametrize("form", ["artifact", "task of it", "after a checkpoint"])
def test_an_artifact_gives_the_same_blocks_as_its_task(form: str, in_a_folder: Path) -> None:
    (message,) = answers(held(STATES["public"], in_a_folder))
    given = {
        "artifact": message.artifact,
        "task of it": message.artifact["task"],
        "after a checkpoint": answers(kept(STATES["public"], in_a_folder))[0].artifact,
    }[form]
    text, video = content_blocks(given)
    assert text["text"].startswith('Video task task_1: succeeded. Its prompt: "fly man". Video 1: 854x480, 5 s;')
    assert video["url"] == VIDEO


def test_a_saved_video_goes_inline_where_that_is_asked_for(in_a_folder: Path) -> None:
    (_, message) = answers(held(STATES["saved"], in_a_folder))
    assert content_blocks(message.artifact)[1] == {"type": "video", "url": VIDEO, "mime_type": "video/mp4"}
    assert content_blocks(message.artifact, inline=True)[1] == standard(
        create_video_block, base64=encoded(MP4), mime_type="video/mp4"
    )


@pytest.mark.timeout(30)
@pytest.mark.parametrize("there", ["secret", "empty", "folder", "pipe", "device", "link to a secret"])
def test_no_file_goes_inline_but_an_mp4(there: str, tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0:root:/root:/bin/bash\n" * 3)
    {
        "secret": lambda: file.write_bytes(secret.read_bytes()),
        "empty": file.touch,
        "folder": file.mkdir,
        "pipe": lambda: os.mkfifo(file),
        "device": lambda: file.symlink_to("/dev/zero"),
        "link to a secret": lambda: file.symlink_to(secret),
    }[there]()
    artifact = {"task": with_generation(file=file).model_dump(mode="json")}
    with pytest.raises(
        InvalidRequestError, match=r"generations\.0\.file: .*a\.mp4, which .* it must be an MP4"
    ) as caught:
        content_blocks(artifact, inline=True)
    assert "bash" not in caught.value.message
    assert content_blocks(artifact)[1]["url"] == VIDEO


def test_an_mp4_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        content_blocks(with_generation(file=tmp_path / "a.mp4"), inline=True)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("there", ["folder", "pipe", "device"])
def test_a_frame_is_read_from_a_regular_file_alone(there: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    {"folder": file.mkdir, "pipe": lambda: os.mkfifo(file), "device": lambda: file.symlink_to("/dev/zero")}[there]()
    for frame in (file, str(file)):
        with pytest.raises(InvalidRequestError, match=r"frames\.1: .*a\.png, which is no regular file, was given"):
            content_blocks(TASK, [picture(), frame])


def test_a_video_that_came_within_the_answer_goes_inline_and_no_other_way():
    came = with_generation(url=f"data:video/mp4;base64,{encoded(MP4)}")
    assert content_blocks(came, inline=True)[1]["base64"] == encoded(MP4)
    (text,) = content_blocks(came)
    assert "no public address" in text["text"]
    (text,) = content_blocks(with_generation(url="data:video/mp4;base64,…"), inline=True)
    assert "no public address" in text["text"], "an artifact is without its bytes"


@pytest.mark.parametrize(
    "changes",
    [
        {"needs_key": True},
        {"url": "http://videos.test/a.mp4"},
        {"url": "https://10.0.0.1/a.mp4"},
        {"url": "https://user:word@videos.test/a.mp4"},
        {"url": "/v1/videos/1/content"},
        {"url": None},
    ],
    ids=str,
)
def test_an_address_that_is_not_the_publics_is_not_named(changes: dict[str, Any]) -> None:
    for inline in (True, False):
        (text,) = content_blocks(with_generation(**changes), inline=inline)
        assert "not shown, for it has no public address" in text["text"]


def test_every_variant_is_told_and_those_that_can_be_are_shown():
    two = TASK.model_copy(update={"generations": (*TASK.generations, Generation(url="https://10.0.0.1/b.mp4"))})
    text, _ = content_blocks(two)
    assert "Video 1: 854x480, 5 s; it follows." in text["text"]
    assert "Video 2: size unknown, length unknown; not shown" in text["text"]


@pytest.mark.parametrize("url", [VIDEO, "https://10.0.0.1/a.mp4"])
def test_videos_stay_out_where_that_is_asked_for(url: str, tmp_path: Path) -> None:
    missing = with_generation(url=url, file=tmp_path / "missing.mp4")
    words = 'Video task task_1: succeeded. Its prompt: "fly man". Video 1: 854x480, 5 s. Frames that follow: 1.'
    text, shown = content_blocks(missing, [picture()], inline=True, videos=False)
    assert text == standard(create_text_block, words)
    assert shown["type"] == "image"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "running", "progress": 0.4}, "There is no video yet. It is 40% done."),
        ({"status": "queued"}, "There is no video yet."),
        ({"status": "unknown"}, "There is no video yet."),
        ({"status": "cancelled"}, "There is no video."),
        (
            {"status": "failed", "failure": Failure(kind="moderation_output", message="It is blocked.")},
            "There is no video: It is blocked.",
        ),
        ({"status": "failed", "failure": Failure()}, "There is no video: unknown"),
    ],
)
def test_a_task_without_a_video_is_words_alone(changes: dict[str, Any], words: str) -> None:
    (text,) = content_blocks(TASK.model_copy(update=changes), [picture()], inline=True)
    assert text == {
        "type": "text",
        "text": f'Video task task_1: {changes["status"]}. Its prompt: "fly man". {words}',
    }


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_frame_is_taken_in_any_form(kind: str, tmp_path: Path) -> None:
    data, mime_type = picture(kind), f"image/{kind.lower()}"
    file = tmp_path / "frame"
    file.write_bytes(data)
    block = {"type": "image", "base64": encoded(data), "mime_type": mime_type}
    forms = [data, file, str(file), f"data:{mime_type};base64,{encoded(data)}"]
    assert content_blocks(TASK, iter(forms))[2:] == [block] * 4


def test_a_frame_is_what_its_bytes_say():
    (block,) = content_blocks(TASK, [f"data:image/png;base64,{encoded(picture('JPEG'))}"])[2:]
    assert block["mime_type"] == "image/jpeg"


def test_a_picture_of_pillows_and_an_address_are_frames():
    shown, named = content_blocks(TASK, [Image.new("RGB", (8, 8), "teal"), "https://images.test/a.png"])[2:]
    assert shown == {"type": "image", "base64": encoded(picture()), "mime_type": "image/png"}
    assert named == standard(create_image_block, url="https://images.test/a.png")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "0 bytes"),
        (MP4[:20], "ftyp"),
        (7, "a int"),
        (None, "a NoneType"),
        ("data:image/png,abc", "data:image/png was given"),
        ("data:image/png;base64,!", "not base64"),
        ("data:image/svg+xml;base64,PHN2Zz4=", "<svg>"),
    ],
    ids=repr,
)
def test_what_is_no_picture_is_refused_by_its_place(frame: Any, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        content_blocks(TASK, [picture(), frame])
    assert caught.value.message.startswith("frames.1: ")
    assert said in caught.value.message
    assert "PNG, JPEG or WebP" in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        content_blocks(TASK, [tmp_path / "missing.png"])
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        content_blocks(with_generation(file=tmp_path / "missing.mp4"), inline=True)


@pytest.mark.parametrize("given", [None, "task_1", {}, {"type": "sora_video_list", "tasks": []}, {"task": None}])
def test_what_is_no_task_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequestError, match="artifact"):
        content_blocks(given)


def holds(payload: Any, text: str) -> bool:
    """Whether a text is within a payload, in either alphabet of base64."""
    spellings = {text, text.replace("+", "-").replace("/", "_")}
    return any(spelt in part for part in parts(payload) if isinstance(part, str) for spelt in spellings)


TAKEN = {
    "openai_chat": {"text", "frame", "frame by address"},
    "openai_responses": {"text", "frame", "frame by address"},
    "anthropic": {"text", "frame", "frame by address"},
    "gemini": {"text", "frame", "video inline"},
    "ollama": {"text", "frame"},
}
"""What each provider's converter takes without a connection. Gemini's fetches what it is given an address of."""


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("block", ["text", "frame", "frame by address", "video", "video inline"])
def test_which_provider_takes_which_block(provider: str, block: str, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(MP4)
    saved = with_generation(file=film)
    (made,) = {
        "text": lambda: content_blocks(with_generation(url=None)),
        "frame": lambda: content_blocks(TASK, [picture()])[2:],
        "frame by address": lambda: content_blocks(TASK, ["https://images.test/a.png"])[2:],
        "video": lambda: content_blocks(saved)[1:],
        "video inline": lambda: content_blocks(saved, inline=True)[1:],
    }[block]()
    messages = [HumanMessage([{"type": "text", "text": "Is this what was asked for?"}, made])]
    if block not in TAKEN[provider]:
        with pytest.raises((ValueError, RuntimeError)):  # pytest-socket's own is a RuntimeError
            PROVIDERS[provider](messages)
        return
    assert holds(PROVIDERS[provider](messages), made.get("text") or made.get("url") or made["base64"])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_words_and_frames_are_taken_by_every_provider(provider: str) -> None:
    blocks = content_blocks(TASK, [picture(), picture("JPEG")], videos=False)
    payload = PROVIDERS[provider]([HumanMessage(blocks)])
    assert holds(payload, blocks[0]["text"])
    assert holds(payload, encoded(picture()))
    assert holds(payload, encoded(picture("JPEG")))
