"""The official OpenAI SDK, unmodified, drives the sandbox."""

from __future__ import annotations

import io

import pytest
import sandbox_desk
from PIL import Image

from sora_tools.sandbox import Sandbox, World

openai = pytest.importorskip("openai", reason="the openai package is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")

TINY = {"prompt": "fly man", "extra_body": {"width": 64, "height": 48, "num_frames": 6}}

served, sandbox = sandbox_desk.served, sandbox_desk.sandbox


@pytest.fixture
def client(sandbox):
    with openai.OpenAI(base_url=f"{sandbox.base_url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_a_video_is_created_retrieved_downloaded_and_deleted(sandbox, client):
    video = client.videos.create(model="sora-2", seconds="4", size="1280x720", **TINY)
    assert (video.id, video.status, video.seconds, video.size) == (
        sandbox.world.tasks[0].task_id,
        "queued",
        "0.2",
        "64x48",
    )
    done = client.videos.retrieve(video.id)
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    content = client.videos.download_content(video.id).read()
    assert content[4:8] == b"ftyp"
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    assert thumbnail.startswith(b"\x89PNG")
    assert client.videos.delete(video.id).deleted is True
    with pytest.raises(openai.NotFoundError, match="Task not found"):
        client.videos.retrieve(video.id)
    assert [request.format for request in sandbox.requests] == ["videos"] * 6


def test_a_list_turns_its_pages_by_itself(client):
    ids = [client.videos.create(**TINY).id for _ in range(5)]
    assert [video.id for video in client.videos.list(limit=2)] == ids[::-1]
    assert [video.id for video in client.videos.list(limit=2, order="asc")] == ids


def test_a_picture_and_a_remix(sandbox, client):
    red = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(red, format="PNG")
    video = client.videos.create(input_reference=("red.png", red.getvalue(), "image/png"), **TINY)
    assert sandbox.world.tasks[0].opening == red.getvalue()
    remix = client.videos.remix(video.id, prompt="fly woman")
    assert (remix.remixed_from_video_id, remix.prompt) == (video.id, "fly woman")
    assert sandbox.creates == 2


def test_create_and_poll_waits_as_long_as_it_takes():
    with (
        Sandbox(render=False, world=World(duration=0.6)) as sandbox,
        openai.OpenAI(base_url=f"{sandbox.base_url}/v1", api_key="any", max_retries=0) as client,
    ):
        video = client.videos.create_and_poll(**TINY)
        assert video.status == "completed"
        routes = [request.route for request in sandbox.requests]
        assert routes[0] == "create"
        assert set(routes[1:]) == {"look"}
        assert len(routes) > 3  # it looks as often as it is told to: by itself it would after 0, 1 and 2 seconds
        sandbox.script("task", "failed")
        failed = client.videos.create_and_poll(**TINY)
        assert (failed.status, failed.error.code) == ("failed", "processing_error")


def test_a_lost_reply_makes_it_create_twice(sandbox):
    sandbox.script("create", "close")
    with openai.OpenAI(base_url=f"{sandbox.base_url}/v1", api_key="any", max_retries=1) as client:
        client.videos.create(**TINY)
    assert sandbox.creates == 2


@pytest.mark.parametrize("answer", ["transcript", "reasoning", "link"])
def test_a_chat_streams_a_video(answer):
    with (
        Sandbox(render=False, world=World(duration=0.3, chat_answer=answer)) as sandbox,
        openai.OpenAI(base_url=f"{sandbox.base_url}/v1", api_key="any", max_retries=0) as client,
    ):
        messages = [{"role": "user", "content": "fly man"}]
        chunks = list(client.chat.completions.create(model="sora_video2", messages=messages, stream=True))
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert f"{sandbox.base_url}/media/{sandbox.world.tasks[0].generation_ids[0]}.mp4" in content
        assert sandbox.creates == 1
        sandbox.script("create", "stream_error", message="upstream went away")
        with pytest.raises(openai.APIError, match="upstream went away"):
            list(client.chat.completions.create(model="sora_video2", messages=messages, stream=True))
        whole = client.chat.completions.create(model="sora_video2", messages=messages)
        assert "enable streaming" in whole.choices[0].message.content
        assert sandbox.creates == 2


def test_models_are_listed(client):
    assert "sora-2" in {model.id for model in client.models.list()}


def test_refusals_are_the_errors_it_knows(sandbox, client, monkeypatch):
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt="x", size="large")
    assert caught.value.param == "size"
    sandbox.script("create", "rate_limit")
    with pytest.raises(openai.RateLimitError):
        client.videos.create(**TINY)
    monkeypatch.setattr(sandbox.world, "keys", frozenset({"another"}))
    with pytest.raises(openai.AuthenticationError, match="无效的令牌"):
        client.videos.list()
