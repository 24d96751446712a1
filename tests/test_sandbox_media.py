"""The sandbox's videos over a real socket: made, handed out in parts, opened by a picture of the caller's."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import av
import httpx
import pytest
import sandbox_desk
from PIL import Image
from sandbox_desk import PATH, SMALL, client_of, create, look, start, video_url

from sora_tools.sandbox import Sandbox, World

served, sandbox, http, web = sandbox_desk.served, sandbox_desk.sandbox, sandbox_desk.http, sandbox_desk.web


# ---------------------------------------------------------------- media


def test_a_video_is_real_and_exactly_as_ordered(http, web):
    reply = web.get(video_url(http, width=96, height=54, n_frames=9))
    assert reply.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(reply.content)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert (stream.width, stream.height, stream.average_rate, frames) == (96, 54, 30, 9)


def test_variants_and_prompts_look_different_and_a_second_download_the_same(http, web):
    task = http.get(f"{PATH}/{start(http, n_variants=2)}").json()
    one, two = (web.get(generation["url"]).content for generation in task["generations"])
    other = web.get(video_url(http, prompt="a bowl of soup")).content
    assert len({one, two, other}) == 3
    assert web.get(task["generations"][0]["url"]).content == one


def test_a_thumbnail_is_a_png(http, web):
    task = http.get(f"{PATH}/{start(http)}").json()
    reply = web.get(task["generations"][0]["encodings"]["thumbnail"]["path"])
    assert reply.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(reply.content)) as picture:
        assert picture.width / picture.height == pytest.approx(64 / 48, rel=0.1)


def test_parts_of_a_video_can_be_asked_for(http, web):
    url = video_url(http)
    whole = web.get(url)
    head = web.head(url)
    size, tag = len(whole.content), whole.headers["etag"]
    assert (head.headers["content-length"], head.content) == (str(size), b"")
    part = web.get(url, headers={"Range": "bytes=100-199", "If-Range": tag})
    assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 100-199/{size}")
    assert part.content == whole.content[100:200]
    assert web.get(url, headers={"Range": f"bytes={size - 5}-"}).content == whole.content[-5:]
    assert web.get(url, headers={"Range": f"bytes={size}-"}).status_code == 416
    changed = web.get(url, headers={"Range": "bytes=100-199", "If-Range": '"older"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


def test_range_can_be_ignored_and_files_can_change_between_parts(sandbox, http, web):
    url = video_url(http)
    tag = web.get(url).headers["etag"]
    sandbox.script("download", "no_range")
    ignored = web.get(url, headers={"Range": "bytes=5-9"})
    assert (ignored.status_code, ignored.headers["accept-ranges"]) == (200, "none")
    sandbox.script("download", "changed", times=2)
    tags = {web.get(url, headers={"Range": "bytes=5-9"}).headers["etag"] for _ in range(2)} | {tag}
    assert len(tags) == 3


def test_broken_downloads_deliver_what_they_say(sandbox, http, web):
    url = video_url(http)
    size = len(web.get(url).content)
    for fault, promised, delivered in (
        ("cut_stream", size, size // 2),
        ("lying_length", size + 4096, size),
        ("truncated", size // 2, size // 2),
    ):
        sandbox.script("download", fault)
        got = 0
        with web.stream("GET", url) as reply:
            assert int(reply.headers["content-length"]) == promised
            try:
                for chunk in reply.iter_raw():
                    got += len(chunk)
            except httpx.RemoteProtocolError:
                assert fault != "truncated"
        assert got == delivered


def test_a_download_may_be_sent_to_another_host(sandbox, http, web):
    url = video_url(http)
    sandbox.script("download", "redirect_other_host", times=None)
    reply = web.get(url, follow_redirects=True)
    assert (reply.status_code, reply.url.host) == (200, "localhost")


def test_urls_run_out_cannot_be_forged_and_are_fresh_with_each_look(clock):
    world = World(clock=clock, by_id=True, url_lifetime=60)
    task_id = create(world).json()["id"]
    clock.seconds += 6

    def fetch(url):
        return world.receive("GET", url.path, query=dict(url.params))

    old = httpx.URL(look(world, task_id)["generations"][0]["url"])
    assert fetch(old).media == old.path.removeprefix("/media/")
    assert fetch(old.copy_set_param("se", "2999-01-01T00:00:00.000000Z")).status == 403
    assert fetch(old.copy_remove_param("sig")).status == 403
    clock.seconds += 61
    expired = fetch(old)
    assert (expired.status, expired.headers["content-type"]) == (403, "application/xml")
    assert b"Signature not valid in the specified time frame" in expired.body
    assert fetch(httpx.URL(look(world, task_id)["generations"][0]["url"])).status == 200


# ---------------------------------------------------------------- pictures


def png(colour="red"):
    data = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(data, "PNG")
    return data.getvalue()


def first_pixel(video):
    with av.open(io.BytesIO(video)) as container:
        return next(container.decode(video=0)).to_image().getpixel((2, 2))


def data_url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture
def picture_host():
    class Host(BaseHTTPRequestHandler):
        def do_GET(self):
            status = {"/away": 302, "/gone": 404}.get(self.path, 200)
            self.send_response(status)
            self.send_header("Location", "http://example.com/x.png")
            self.end_headers()
            self.wfile.write(png() if self.path == "/red.png?v=1" else b"<html>")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_inpaint_image_opens_the_video(http, picture_host, web):
    plain = first_pixel(web.get(video_url(http)).content)
    for url in (data_url(png()), f"{picture_host}/red.png?v=1"):
        red, green, blue = first_pixel(web.get(video_url(http, inpaint_items=[{"url": ""}, {"url": url}])).content)
        assert red > 150 > max(green, blue), url
        assert (red, green, blue) != plain


@pytest.mark.parametrize("path", ["/away", "/gone", "/page.html"])
def test_an_image_that_is_none_is_refused(sandbox, http, picture_host, path):
    reply = http.post(PATH, json={**SMALL, "inpaint_items": [{"url": picture_host + path}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "inpaint_items")
    assert sandbox.creates == 0


def test_no_picture_is_read_for_a_caller_without_a_key():
    body = json.dumps({**SMALL, "inpaint_items": [{"url": "http://127.0.0.1/red.png"}]}).encode()
    world = World(keys=["right"])
    assert [
        len(world.pictures("POST", PATH, headers=key, body=body))
        for key in ({"authorization": "Bearer right"}, {"authorization": "Bearer wrong"}, {})
    ] == [1, 0, 0]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "http://example.com/cat.png",
        "http://169.254.169.254/latest",
        "http://127.0.0.1:1/cat.png",
        "data:image/png;base64,%%%",
        "data:image/png,raw",
        "data:image/png;base64,aGVsbG8=",
        "http://[::1/",
    ],
)
def test_images_from_elsewhere_are_refused(sandbox, http, url):
    reply = http.post(PATH, json={**SMALL, "inpaint_items": [{"url": url}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "inpaint_items")
    assert sandbox.creates == 0


# ---------------------------------------------------------------- the studio


@pytest.fixture(scope="module")
def filming():
    """A sandbox whose tasks succeed as soon as their videos are there, and its client."""
    with Sandbox(world=World(duration=0, by_id=True)) as sandbox, client_of(sandbox) as client:
        yield sandbox, client


def ended(http, task_id):
    while (task := http.get(f"{PATH}/{task_id}").json())["status"] == "running":
        time.sleep(0.01)  # another process renders, in its own time
    return task


def test_rendering_holds_the_task_and_nothing_else(filming, web):
    _, http = filming
    task_id = start(http, width=854, height=480, n_frames=30)
    first = http.get(f"{PATH}/{task_id}").json()
    assert (first["status"], first["progress_pct"]) == ("running", 0.99)
    delays = []
    while True:
        begun = time.perf_counter()
        task = http.get(f"{PATH}/{task_id}").json()
        delays.append(time.perf_counter() - begun)
        if task["status"] != "running":
            break
        time.sleep(0.01)  # the render takes its own time, in another process
    assert task["status"] == "succeeded"
    video = web.get(task["generations"][0]["url"]).content
    assert task["generations"][0]["encodings"]["source"]["size"] == len(video)
    assert sorted(delays)[len(delays) // 2] < 0.1


def test_a_video_that_cannot_be_made_fails_its_task(filming, caplog):
    _, http = filming
    task = ended(http, start(http, inpaint_items=[{"url": data_url(b"\x89PNG but not really")}]))
    assert (task["status"], task["failure_reason"], task["generations"]) == ("failed", "processing_error", [])
    assert "could not be rendered" in caplog.text


def test_a_studio_whose_worker_died_goes_on(filming):
    sandbox, http = filming
    assert ended(http, start(http))["status"] == "succeeded"
    for process in sandbox._running._studio._processes:
        process.kill()
        process.wait()
    assert ended(http, start(http))["status"] == "succeeded"
