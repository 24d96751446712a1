"""The chat format at the sandbox: what a message asks for, and streams that last as long as the video takes."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from itertools import pairwise

import httpx
import pytest
import sandbox_desk
from PIL import Image
from sandbox_desk import KEY, PATH, create

from sora_tools.sandbox import Sandbox, World
from sora_tools.sandbox.transcripts import TELLINGS

CHAT = "/v1/chat/completions"
ANSWERS = sorted(TELLINGS)

served, sandbox, http = sandbox_desk.served, sandbox_desk.sandbox, sandbox_desk.http


def asking(content="fly man", model="sora_video2", *, stream=True, **fields):
    return {"model": model, "messages": [{"role": "user", "content": content}], "stream": stream, **fields}


def ask(world, body):
    return world.receive("POST", CHAT, headers=KEY, body=json.dumps(body).encode())


def pieces_of(answer, clock):
    """The pieces of a stream, with the clock moved on as it waits."""
    begun = clock.seconds
    for step in answer.stream:
        if isinstance(step, bytes):
            yield step
        else:
            clock.seconds += step
            assert clock.seconds - begun < 60


def listen(answer, clock):
    """The events of a stream, the time they came at, and what its content and reasoning add up to."""
    events, content, reasoning = [], "", ""
    begun = clock.seconds
    for piece in pieces_of(answer, clock):
        assert piece.startswith(b"data: ")
        assert piece.endswith(b"\n\n")
        data = piece[6:-2].decode()
        event = data if data == "[DONE]" else json.loads(data)
        events.append((round(clock.seconds - begun, 3), event))
        if "choices" in event:
            delta = event["choices"][0]["delta"]
            content += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
    return events, content, reasoning


def told(clock, answer="transcript", ending=None, **settings):
    """A world whose chats answer so, what its one chat said, and the URL of its video."""
    world = World(clock=clock, chat_answer=answer, by_id=True, **settings)
    if ending:
        world.script("task", ending)
    events, content, reasoning = listen(ask(world, asking()), clock)
    generations = world.task(world.tasks[0].task_id)["generations"]
    return world, events, content, reasoning, generations[0]["url"] if generations else None


# ---------------------------------------------------------------- what a message asks for


@pytest.mark.parametrize(
    ("model", "prompt", "size", "seconds"),
    [
        ("sora-16:9-480p-5s", "x", (854, 480), 5),
        ("sora-16:9-720p-5s", "a 16:9 film of 9s", (1280, 720), 5),
        ("sora-9:16-720p-10s", "x", (720, 1280), 10),
        ("sora-1:1-480p-10s", "x", (480, 480), 10),
        ("sora-1:1-720p-5s", "x", (720, 720), 5),
        ("sora_video2", "x", (352, 640), 10),
        ("sora_video2-landscape-10s", "x", (640, 352), 10),
        ("sora_video2-15s-hd-landscape", "x", (1280, 704), 15),
        ("sora_video2-portrait-hd-25s-pro", "a landscape", (704, 1280), 25),
        ("sora-2-hd-15s-chat", "x", (704, 1280), 15),
        ("sora2-landscape-10s", "x", (640, 352), 10),
        ("sora2pro-hd-portrait-15s", "x", (704, 1280), 15),
        ("sora-video-10s", "x", (352, 640), 10),
        ("sora-2", "fly man, landscape, 15 seconds", (640, 352), 15),
        ("sora-2-pro", "会飞的人，横屏，4秒", (640, 352), 4),
        ("sora-2", "fly man 64x48 1s", (64, 48), 1),
        ("sora-2", "a 2sister 1990s film", (352, 640), 10),
    ],
)
def test_names_and_then_prompts_say_size_and_length(clock, model, prompt, size, seconds):
    world = World(clock=clock)
    assert ask(world, asking(prompt, model)).status == 200
    order = world.tasks[0].order
    assert ((order.width, order.height), order.seconds, order.model) == (size, seconds, model)


@pytest.mark.parametrize("model", ["gpt-5", "sora_image", "sora-image", "veo-3"])
def test_a_model_that_makes_no_videos_is_not_found(clock, model):
    world = World(clock=clock)
    answer = ask(world, asking(model=model))
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert world.creates == 0


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "x",
        [],
        [1],
        [{"role": "system", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "text", "text": 3}]}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]}],
    ],
)
def test_messages_that_ask_for_nothing_are_refused(clock, messages):
    world = World(clock=clock)
    answer = ask(world, {"model": "sora-2", "stream": True, "messages": messages})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "messages")
    assert world.creates == 0


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_last_user_message_counts_and_its_picture_opens_the_video(sandbox, http, wrapped):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    content = [
        {"type": "text", "text": "fly man"},
        {"type": "image_url", "image_url": {"url": url} if wrapped else url},
    ]
    messages = [
        {"role": "user", "content": "a bowl of soup"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": content},
    ]
    http.post(CHAT, json={"model": "sora-2", "messages": messages, "stream": True})
    (task,) = sandbox.world.tasks
    assert (task.order.prompt, task.opening) == ("fly man", picture.getvalue())


# ---------------------------------------------------------------- what a stream says


def test_a_transcript_tells_id_queue_progress_and_the_video_after_its_decoys(clock):
    world, events, content, _, url = told(clock)
    (task,) = world.tasks
    lines = content.splitlines()
    assert json.loads(lines[1]) == {"prompt": "fly man", "orientation": "portrait"}
    assert lines[3] == f"> ID: `{task.task_id}`"
    links = re.findall(r"\]\((\S+?)\)", content)
    assert [link.partition("?")[0].rpartition("/")[2] for link in links] == [
        task.task_id,
        task.task_id,
        f"{task.generation_ids[0]}.png",
        f"{task.generation_ids[0]}.mp4",
    ]
    assert links[-1].partition("&")[0] == url.partition("&")[0]
    progress = [int(number) for number in re.findall(r"进度 (\d+)", content)]
    assert len(progress) >= 6
    assert progress == sorted(set(progress))
    order = [
        content.index(words) for words in ("ID:", "排队中", "生成中", "进度", "生成完成 ✅", "sid: s_", "在线播放")
    ]
    assert order == sorted(order)
    assert [event["choices"][0]["finish_reason"] for _, event in events[:-1]] == [None] * (len(events) - 2) + ["stop"]
    assert events[-1][1] == "[DONE]"


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_stream_keeps_the_pace_of_its_task(clock, answer):
    _, events, _, _, url = told(clock, answer)
    assert url
    times = [at for at, _ in events]
    assert times[0] == 0
    assert times[-1] == times[-2] == pytest.approx(6, abs=0.6)
    if answer not in {"link", "url", "json"}:
        steps = [later - earlier for earlier, later in pairwise(times)]
        assert max(steps) <= 1.01
        assert len(set(times)) >= 8


def test_reasoning_keeps_progress_apart_and_stops_in_capitals(clock):
    _, events, content, reasoning, url = told(clock, "reasoning")
    chunks = [event for _, event in events[:-1]]
    assert re.fullmatch(r"```html\n<video src='(\S+)' controls></video>\n```", content)[1].split("&")[0] in url
    numbers = [int(number) for number in re.findall(r"\*\*Video Generation Progress\*\*: (\d+)% \(\w+\)", reasoning)]
    assert numbers == sorted(numbers)
    assert {chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1]} == {None}
    assert chunks[-1]["choices"][0]["finish_reason"] == "STOP"
    assert {chunk["model"] for chunk in chunks} == {"sora"}
    assert len({chunk["id"] for chunk in chunks}) == len(chunks)


def test_output_carries_the_video_and_the_task_beside_the_words(clock):
    world, events, _, _, url = told(clock, "output")
    deltas = [event["choices"][0]["delta"] for _, event in events[:-1]]
    task_id = world.tasks[0].task_id
    assert {delta["wm"]["task_id"] for delta in deltas} == {task_id}
    (video,) = deltas[-1]["output"]
    assert (video["type"], video["task_id"], video["url"].split("&")[0]) == ("video", task_id, url.split("&")[0])


def test_the_shortest_answers_end_with_the_url(clock):
    ends = {}
    for answer in ("emoji", "link", "url", "json"):
        world, events, content, _, url = told(clock, answer)
        assert world.tasks[0].task_id not in json.dumps(events)
        ends[answer] = content.replace(re.search(r"http\S+?(?=[)\"]|$)", content)[0], "URL")
        assert url.split("?")[0] in content
        expected = "chat.completion" if answer == "link" else "chat.completion.chunk"
        assert {event["object"] for _, event in events[:-1]} == {expected}
    assert ends["emoji"].startswith("🎬 排队中\n⏳ 生成中 0%\n")
    assert ends["emoji"].endswith("%\nURL")
    del ends["emoji"]
    assert ends == {
        "link": "video generated successful,[click here](URL)",
        "url": "URL",
        "json": '{"url": "URL"}',
    }


@pytest.mark.parametrize("ending", ["failed", "moderation_input", "moderation_output", "cancelled"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_failure_is_ordinary_text(clock, answer, ending):
    world, events, content, _, _ = told(clock, answer, ending)
    reason = {"failed": "processing_error", "cancelled": "cancelled"}.get(ending, ending.replace("moderation_", ""))
    assert "失败" in content
    assert reason in content
    assert "http" not in content.replace("https://asyncdata.net", "")
    assert all("error" not in event for _, event in events)
    assert events[-2][1]["choices"][0]["finish_reason"].lower() == "stop"
    assert world.creates == 1


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_failure_may_be_an_error_object(clock, answer):
    _, events, content, _, _ = told(clock, answer, "failed", chat_failure="error")
    error = events[-2][1]["error"]
    assert (error["type"], error["message"]) == ("server_error", "Generation failed: processing_error")
    assert "processing_error" not in content
    assert events[-1][1] == "[DONE]"
    _, events, _, _, url = told(clock, answer, chat_failure="error")
    assert url
    assert all("error" not in event for _, event in events)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_stream_may_finish_without_a_video(clock, answer):
    _, events, content, _, _ = told(clock, answer, "no_output")
    assert "http" not in content.replace("https://asyncdata.net", "")
    assert events[-2][1]["choices"][0]["finish_reason"].lower() == "stop"


def test_the_first_url_of_an_expired_one_is_stale_here_too(clock):
    world, _, content, _, url = told(clock, "url", "expired_url")
    assert world.receive("GET", httpx.URL(content).path, query=dict(httpx.URL(content).params)).status == 403
    assert world.receive("GET", httpx.URL(url).path, query=dict(httpx.URL(url).params)).status == 200


# ---------------------------------------------------------------- without a stream


def test_without_a_stream_nothing_is_made_and_a_sentence_says_so(clock):
    world = World(clock=clock)
    answer = ask(world, asking(stream=False))
    content = answer.json()["choices"][0]["message"]["content"]
    assert (answer.status, content) == (
        200,
        "All tokens available for video generation. Please enable streaming to use the generation feature.",
    )
    assert world.creates == 0


@pytest.mark.parametrize("ending", [None, "failed"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_whole_answer_comes_when_the_video_is_there(clock, answer, ending):
    _, _, content, _, _ = told(clock, answer, ending)
    world = World(clock=clock, chat_answer=answer, chat_whole=True)
    if ending:
        world.script("task", ending)
    begun = clock.seconds
    pieces = list(pieces_of(ask(world, asking(stream=False)), clock))
    assert clock.seconds - begun == pytest.approx(6, abs=3.1 if ending else 0.6)
    (piece,) = pieces
    body = json.loads(piece)
    message = body["choices"][0]["message"]["content"]
    shape = r"https?://\S+?(?=[)\"']|$)|task_\w+|s_\w+"
    assert re.sub(shape, "", message, flags=re.MULTILINE) == re.sub(shape, "", content, flags=re.MULTILINE)
    assert (body["object"], body["choices"][0]["finish_reason"]) == ("chat.completion", "stop")


def test_a_whole_answer_may_be_an_error_object(clock):
    world = World(clock=clock, chat_whole=True, chat_failure="error")
    world.script("task", "failed")
    (piece,) = pieces_of(ask(world, asking(stream=False)), clock)
    assert json.loads(piece)["error"]["message"] == "Generation failed: processing_error"


# ---------------------------------------------------------------- over a socket


def test_a_chat_is_one_task_of_the_world_like_any_other(sandbox, http):
    with http.stream("POST", CHAT, json=asking("fly man 64x48 1s", "sora-2")) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["x-oneapi-request-id"]
        assert "content-length" not in reply.headers
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    (task,) = sandbox.world.tasks
    assert sandbox.charged == task.charge > 0
    logged = sandbox.requests[-1]
    assert (logged.format, logged.route, logged.task_id, logged.status) == ("chat", "create", task.task_id, 200)
    assert http.get(f"{PATH}/{task.task_id}").json()["prompt"] == "fly man 64x48 1s"
    assert http.get(f"/v1/videos/{task.task_id}/content").content[4:8] == b"ftyp"
    last = json.loads(lines[-2].removeprefix("data: "))["choices"][0]["delta"]["content"]
    (url,) = re.findall(r"在线播放▶️\]\((\S+?)\)", last)
    assert httpx.get(url, verify=False).content[4:8] == b"ftyp"


def test_pieces_arrive_as_they_come_to_be_and_the_task_outlives_its_client(clock):
    with (
        Sandbox(render=False, world=World(clock=clock, duration=0.6, by_id=True)) as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers=KEY, verify=False) as http,
    ):
        with http.stream("POST", CHAT, json=asking()) as reply:
            lines = (line for line in reply.iter_lines() if line)
            assert "ID" in next(lines)
            assert "排队中" in next(lines)
            clock.seconds += 0.3
            assert "进度 33" in next(lines)
        clock.seconds += 1
        task_id = sandbox.world.tasks[0].task_id
        assert http.get(f"{PATH}/{task_id}").json()["status"] == "succeeded"
        assert sandbox.creates == 1


def test_it_stops_at_once_though_a_stream_has_no_end():
    with Sandbox(render=False) as sandbox, httpx.Client(base_url=sandbox.base_url, headers=KEY, verify=False) as http:
        sandbox.script("task", "stuck")
        with http.stream("POST", CHAT, json=asking()) as reply:
            lines = reply.iter_lines()
            next(lines)
            begun = time.monotonic()
            sandbox.stop()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
    assert time.monotonic() - begun < 2


# ---------------------------------------------------------------- streams that go wrong


@pytest.mark.parametrize(("options", "cut"), [({}, True), ({"tidy": True}, False), ({"pieces": 2}, True)])
def test_a_stream_may_end_before_its_done(sandbox, http, options, cut):
    sandbox.script("create", "stream_cut", **options)
    lines = []
    with http.stream("POST", CHAT, json=asking()) as reply:
        try:
            for line in reply.iter_lines():
                lines += [line] if line else []
        except httpx.RemoteProtocolError:
            assert cut
        else:
            assert not cut
    assert "data: [DONE]" not in lines
    assert len(lines) == options.get("pieces", 3)
    assert ("mp4" in lines[-1]) == ("pieces" not in options)
    assert sandbox.creates == 1
    assert (sandbox.requests[-1].fault, sandbox.requests[-1].status) == ("stream_cut", 200)


def test_an_error_object_may_take_the_place_of_the_rest(clock):
    world = World(clock=clock)
    world.script("create", "stream_error", pieces=3, message="upstream went away")
    events, _, _ = listen(ask(world, asking()), clock)
    assert events[-2][1]["error"]["message"] == "upstream went away"
    assert (len(events), events[-1][1], world.creates) == (5, "[DONE]", 1)


@pytest.mark.parametrize("fault", ["cut_reply", "cut_json", "no_id", "slow", "error_200", "reset", "bad_gateway"])
def test_the_faults_of_any_create_befall_a_chat(clock, fault):
    world = World(clock=clock)
    world.script("create", fault)
    answer = ask(world, asking())
    assert world.creates == int(fault not in {"error_200", "bad_gateway"})
    if fault == "cut_reply":
        assert answer.manner == "cut"
        assert len(list(pieces_of(answer, clock))) == 2
    elif fault == "cut_json":
        *_, last = pieces_of(answer, clock)
        assert last.startswith(b"data: {")
        assert not last.endswith(b"\n\n")
    elif fault == "no_id":
        events, content, _ = listen(answer, clock)
        assert "task_" not in json.dumps(events)
        assert "mp4" in content
    elif fault == "slow":
        assert (answer.after, answer.stream is None) == (1.0, False)
    elif fault == "reset":
        assert answer.manner == "reset"
    else:
        assert answer.stream is None


def test_a_whole_answer_can_be_cut_too(clock):
    world = World(clock=clock, chat_whole=True, duration=0)
    world.script("create", "cut_json")
    (piece,) = pieces_of(ask(world, asking(stream=False)), clock)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(piece)


@pytest.mark.parametrize("fault", ["stream_cut", "stream_error"])
def test_a_stream_s_fault_on_a_create_without_one_does_what_comes_closest(clock, fault):
    world = World(clock=clock)
    world.script("create", fault)
    answer = create(world)
    assert world.creates == 1
    assert answer.manner == "cut" if fault == "stream_cut" else "error" in answer.json()


# --- a chat model beside the videos


def reply(body):
    """Calls the first tool with what was said, and says what the tool answered."""
    *_, last = body["messages"]
    if last["role"] != "user" or not body.get("tools"):
        return {"content": f"It said: {last['content']}"}
    name = body["tools"][0]["function"]["name"]
    function = {"name": name, "arguments": json.dumps({"words": last["content"]})}
    return {"tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


@pytest.mark.parametrize("manner", ["whole", "streamed"])
def test_a_chat_model_of_ones_own_is_served_to_langchains_client_with_tools(manner):
    from langchain.agents import create_agent
    from langchain.messages import AIMessageChunk
    from langchain.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def shout(words: str) -> str:
        """Say it loudly."""
        return words.upper()

    with Sandbox(world=World(chat_model=reply, keys=["sk-1"])) as sandbox:
        model = ChatOpenAI(model="gpt-5", base_url=f"{sandbox.base_url}/v1", api_key="sk-1")
        agent = create_agent(model, [shout])
        question = {"messages": [("user", "fly man")]}
        if manner == "whole":
            assert agent.invoke(question)["messages"][-1].text == "It said: FLY MAN"
        else:
            told = [chunk for chunk, _ in agent.stream(question, stream_mode="messages")]
            said = [chunk for chunk in told if isinstance(chunk, AIMessageChunk)]
            assert "".join(chunk.text for chunk in said) == "It said: FLY MAN"
            assert [call["name"] for chunk in said for call in chunk.tool_calls] == ["shout"]
        assert sandbox.creates == 0
        assert [(request.route, request.format) for request in sandbox.requests] == [("completion", "")] * 2


def test_videos_are_made_beside_the_chat_model(clock):
    world = World(clock=clock, chat_model=reply)
    assert ask(world, asking("hello", "gpt-5", stream=False)).json()["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "It said: hello"},
        "finish_reason": "stop",
    }
    _, content, _ = listen(ask(world, asking()), clock)
    assert "mp4" in content
    assert world.creates == 1


def test_a_chat_model_needs_the_key_and_is_there_whatever_formats_are(clock):
    world = World(clock=clock, chat_model=reply, formats=["videos"])
    body = json.dumps(asking("hello", "gpt-5", stream=False)).encode()
    assert world.receive("POST", CHAT, body=body).status == 401
    assert world.receive("POST", CHAT, headers=KEY, body=body).status == 200
    assert ask(world, asking()).status == 404


def test_scripts_of_creates_do_not_befall_a_chat_model(clock):
    world = World(clock=clock, chat_model=reply)
    world.script("create", "bad_gateway")
    assert ask(world, asking("hello", "gpt-5", stream=False)).status == 200
    assert len(world.pending) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model": 5}', b"{}"])
def test_what_names_no_model_is_refused_as_without_a_chat_model(clock, body):
    answers = [
        World(clock=clock, **chat).receive("POST", CHAT, headers=KEY, body=body) for chat in ({}, {"chat_model": reply})
    ]
    assert answers[0] == answers[1]
    assert answers[0].status == 400
