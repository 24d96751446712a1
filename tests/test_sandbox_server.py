"""The sandbox as a server: what it logs, how other processes steer it, and that it starts, stops and bears a load."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
import sandbox_desk
from sandbox_desk import KEY, PATH, SMALL, client_of, start

from sora_tools.sandbox import Sandbox, World

served, sandbox, http, web = sandbox_desk.served, sandbox_desk.sandbox, sandbox_desk.http, sandbox_desk.web


# ---------------------------------------------------------------- the log and the control routes


def test_the_log_keeps_what_tests_read_and_never_the_key(sandbox, http):
    http.post(PATH, json=SMALL, headers={"Idempotency-Key": "k-1", "X-Secret": "anything"})
    http.get(PATH, params={"limit": 3})
    first, second = sandbox.requests
    assert (first.method, first.path, first.route, first.status, first.fault) == ("POST", PATH, "create", 200, None)
    assert (first.body, first.headers["idempotency-key"], first.authorized) == (SMALL, "k-1", True)
    assert first.task_id == sandbox.world.tasks[0].task_id
    assert (second.route, second.query, second.body, second.task_id) == ("list", {"limit": "3"}, None, None)
    assert first.at <= second.at
    assert "anything" not in repr(sandbox.requests)


def test_other_processes_script_read_and_reset_over_http(sandbox, http):
    script = {"route": "create", "fault": "busy", "times": 1, "options": {"retry_after": 3}}
    assert http.post("/_sandbox/script", json=script).json() == {
        "pending": [{"route": "create", "fault": "busy", "times": 1}]
    }
    assert http.post(PATH, json=SMALL).headers["retry-after"] == "3"
    task_id = start(http)
    state = http.get("/_sandbox/state").json()
    assert (state["accepted"], state["charged"], state["pending"]) == (1, str(sandbox.charged), [])
    assert [request["fault"] for request in state["requests"]] == ["busy", None]
    assert state["tasks"][0]["id"] == task_id
    assert state["tasks"][0]["generations"][0]["url"].startswith(sandbox.base_url)
    http.post("/_sandbox/reset")
    state = http.get("/_sandbox/state").json()
    assert (state["accepted"], state["charged"], state["requests"], state["tasks"]) == (0, "0", [], [])


@pytest.mark.parametrize(
    "body", ["{", "[]", "{}", '{"route":"create","fault":"no"}', '{"route":"create","fault":1,"x":2}']
)
def test_bad_control_requests_are_told_why(http, body):
    reply = http.post("/_sandbox/script", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


def test_a_sandbox_knows_nothing_of_the_rest_of_the_package():
    code = "import sora_tools.sandbox, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[1] for name in loaded if name.startswith("sora_tools.")} == {"sandbox"}
    assert {"av", "PIL", "sora_tools.sandbox.render"}.isdisjoint(loaded)  # the studio's worker alone loads them


def test_a_task_can_be_read_beside_the_wire(sandbox, http):
    task_id = start(http)
    assert sandbox.task(task_id)["generations"][0]["url"].startswith(sandbox.base_url)
    with pytest.raises(KeyError):
        sandbox.task("task_nope")


# ---------------------------------------------------------------- starting and stopping


def test_it_stops_at_once_though_requests_hang_and_logs_nothing(web, caplog):
    caplog.set_level("INFO", logger="uvicorn")
    outcomes = []

    def wait(url):
        try:
            web.get(url + PATH, headers=KEY)
        except httpx.HTTPError as exc:
            outcomes.append(type(exc))

    with Sandbox(render=False) as sandbox:
        sandbox.script("list", "hang", times=None)
        threads = [threading.Thread(target=wait, args=(sandbox.base_url,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(sandbox.requests) < 5:
            time.sleep(0.01)  # the requests have to be there before we stop
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.5
    for thread in threads:
        thread.join()
    assert outcomes == [httpx.RemoteProtocolError] * 5
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_it_stops_at_once_though_a_long_video_renders_and_its_folder_goes_with_it():
    with Sandbox() as sandbox, client_of(sandbox) as http:
        start(http, width=1920, height=1080, n_frames=1800)
        (running,) = [sandbox._running]
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    assert not running._studio._directory.exists()
    with pytest.raises(RuntimeError, match="not started"):
        _ = sandbox.base_url
    assert sandbox.creates == 1


def test_it_can_be_started_again_and_keeps_a_folder_it_was_given(tmp_path, web):
    sandbox = Sandbox(directory=tmp_path / "videos", render=False, world=World(duration=0))
    for round_ in (1, 2):
        with sandbox, client_of(sandbox) as http:
            start(http)
            tasks = http.get(PATH).json()["task_responses"]
            assert len(tasks) == round_
            assert web.get(tasks[-1]["generations"][0]["url"]).status_code == 200
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 1


def test_only_this_machine_is_served_unless_told_otherwise(web):
    for host in ("0.0.0.0", "192.0.2.1", "example.com"):
        with pytest.raises(ValueError, match="allow_remote"):
            Sandbox(host=host)
    with Sandbox(host="0.0.0.0", allow_remote=True) as sandbox:
        assert sandbox.base_url.startswith("http://127.0.0.1:")
        assert web.get(sandbox.base_url).status_code == 200


def test_a_world_brings_its_own_settings():
    with pytest.raises(ValueError, match="World"):
        Sandbox(world=World(), speed=2)
    with pytest.raises(ValueError, match="speed"):
        World(speed=0)


@pytest.mark.parametrize(
    "settings", [{"port": 99999}, {"port": -1}, {"port": "x"}, {"speed": "x"}, {"speed": 0}, {"speed": float("nan")}]
)
def test_a_setting_that_cannot_work_is_named(settings):
    [(name, value)] = settings.items()
    with pytest.raises(ValueError, match=f"^{name}={value!r} was given; it is a "):
        Sandbox(**settings)


def test_a_taken_port_is_an_error(sandbox):
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=httpx.URL(sandbox.base_url).port).start()


def test_serve_runs_until_it_is_told_to_stop(web):
    code = "from sora_tools.sandbox import serve; serve(port=0, announce=lambda s: print(s.base_url, flush=True))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert web.get(f"{url}/_sandbox/state").json()["accepted"] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


def test_it_stops_at_once_though_a_first_download_renders(web):
    outcomes = []
    with Sandbox(render=False, world=World(duration=0)) as sandbox:
        with client_of(sandbox) as http:
            task_id = start(http, width=1920, height=1080, n_frames=1800)
        url = sandbox.task(task_id)["generations"][0]["url"]
        thread = threading.Thread(target=lambda: outcomes.append(web.get(url).status_code))
        thread.start()
        while not any(request.route == "download" for request in sandbox.requests):
            time.sleep(0.01)  # the request has to be there before we stop
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    thread.join()
    assert outcomes == [500]


# ---------------------------------------------------------------- load


async def test_a_thousand_lists_at_once_are_all_answered(sandbox):
    host, port = sandbox.base_url.removeprefix("http://").split(":")
    request = f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer x\r\n\r\n".encode()
    connections = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(1000)))
    for _ in range(2):  # the second time on connections that were left idle
        for _, writer in connections:
            writer.write(request)
        heads = await asyncio.gather(*(reader.readuntil(b'"has_more":false}') for reader, _ in connections))
        assert {head.split(b"\r\n")[0] for head in heads} == {b"HTTP/1.1 200 OK"}
    for _, writer in connections:
        writer.close()
        await writer.wait_closed()
    assert len(sandbox.requests) == 2000


def test_too_large_a_body_is_refused_without_reading_on(http, sandbox):
    answer = http.post(PATH, content=b" " * (33 << 20))
    assert (answer.status_code, answer.json()["code"]) == (413, "read_request_body_failed")
    assert sandbox.creates == 0
