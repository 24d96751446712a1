"""Videos that the sandbox makes of others: remixes, blends and pictures at their frames, from request to pixels."""

from __future__ import annotations

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import av
import pytest
import sandbox_desk
from PIL import Image, ImageChops, ImageOps, ImageStat
from sandbox_desk import KEY, PATH, SMALL, client_of, create, start

from sora_tools import InvalidRequestError, Sora, VideoRequest
from sora_tools.sandbox import Sandbox, World, studio

VIDEOS = "/v1/videos"

served, sandbox, http, web = sandbox_desk.served, sandbox_desk.sandbox, sandbox_desk.http, sandbox_desk.web
world = sandbox_desk.world


def frames_of(data):
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def difference(one, other):
    """Mean difference of two pictures, from 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def apart(one, other):
    """How far two videos are apart, on average over their frames."""
    return sum(difference(*pair) for pair in zip(one, other, strict=True)) / len(one)


def generation(http, task_id, variant=0):
    return http.get(f"{PATH}/{task_id}").json()["generations"][variant]


def made(http, **changes):
    """A new video's generation id."""
    return generation(http, start(http, **changes))["id"]


def film(http, web, generation_id):
    """The frames of a generation."""
    for task in http.get(PATH, params={"limit": 100}).json()["task_responses"]:
        for each in task["generations"]:
            if each["id"] == generation_id:
                return frames_of(web.get(each["url"]).content)
    raise LookupError(generation_id)


def edit(generation_id, amount=1):
    return {"amount": amount, "source_generation_id": generation_id, "source_upload_media_id": None}


def items(*generation_ids, **members):
    return [{"generation_id": generation_id, **members} for generation_id in generation_ids]


def png(picture):
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    return stored.getvalue()


def data_url(picture):
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


FOXES = "Two foxes in snow"


# ---------------------------------------------------------------- remix


def test_a_remix_shows_its_source_the_more_the_lower_the_amount(sandbox, http, web):
    source = made(http, prompt="A storm at sea")
    plain = film(http, web, made(http, prompt=FOXES))
    near, far = (
        film(http, web, made(http, prompt=FOXES, operation="remix", sdedit=edit(source, amount))) for amount in (1, 8)
    )
    original = film(http, web, source)
    assert apart(near, original) < apart(far, original) < apart(plain, original)
    assert apart(near, original) < apart(near, plain)
    assert apart(far, plain) < apart(near, plain)
    assert (sandbox.creates, sandbox.charged) == (4, 4 * sandbox.world.tasks[0].charge)


def test_a_source_can_be_named_by_an_item_or_by_sdedit_and_whatever_the_operation(http, web):
    source = made(http, prompt="A storm at sea")
    original, plain = film(http, web, source), film(http, web, made(http, prompt=FOXES))
    for changes in (
        {"operation": "remix", "inpaint_items": items(source)},
        {"operation": "simple_compose", "sdedit": edit(source)},
        {"operation": "remix", "sdedit": edit(source), "inpaint_items": items(source, source_start_frame=0)},
    ):
        remix = film(http, web, made(http, prompt=FOXES, **changes))
        assert apart(remix, original) < apart(plain, original) / 2, changes


def test_the_remix_of_a_video_is_made_over_it(sandbox, http, web):
    original = http.post(VIDEOS, json={"prompt": "A storm at sea", "width": 64, "height": 48, "num_frames": 6}).json()
    remix = http.post(f"{VIDEOS}/{original['id']}/remix", json={"prompt": FOXES}).json()
    source, over = (frames_of(http.get(f"{VIDEOS}/{each['id']}/content").content) for each in (original, remix))
    plain = film(http, web, made(http, prompt=FOXES))
    assert remix["remixed_from_video_id"] == original["id"]
    assert apart(over, source) < apart(plain, source)
    assert apart(over, source) > 1
    assert (sandbox.creates, sandbox.world.tasks[1].charge) == (3, sandbox.world.tasks[0].charge)


def test_the_remix_of_a_video_forgets_what_the_original_was_made_of(sandbox, http):
    """It lies over the original, where all of that shows already."""
    picture = Image.new("RGB", (64, 48), "red")
    first = start(http, sdedit=edit(made(http)), inpaint_items=[{"url": data_url(picture)}])
    http.post(f"{VIDEOS}/{first}/remix", json={"prompt": FOXES})
    remix = sandbox.world.tasks[-1]
    assert [made.task.task_id for made in remix.materials.values()] == [first]
    assert (remix.order.sdedit, remix.order.inpaint_items) == (None, ())


def test_a_remix_of_a_remix_shows_the_first(http, web):
    first = made(http, prompt="A storm at sea")
    second = made(http, prompt=FOXES, operation="remix", sdedit=edit(first, 2))
    third = film(http, web, made(http, prompt="A bowl of soup", operation="remix", sdedit=edit(second, 2)))
    plain = film(http, web, made(http, prompt="A bowl of soup"))
    assert apart(third, film(http, web, second)) < apart(third, film(http, web, first))
    assert apart(third, film(http, web, first)) < apart(plain, film(http, web, first))


def test_a_remix_may_have_another_size_and_length(http, web):
    source = made(http, prompt="A storm at sea")
    sizes = {"width": 40, "height": 70, "n_frames": 12}
    remix = film(http, web, made(http, prompt=FOXES, operation="remix", sdedit=edit(source), **sizes))
    plain = film(http, web, made(http, prompt=FOXES, **sizes))
    original = film(http, web, source)
    assert (len(remix), remix[0].size) == (12, (40, 70))
    covered = [ImageOps.fit(frame, (40, 70)) for frame in original + 6 * original[-1:]]
    assert apart(remix, covered) < apart(plain, covered) / 2


def test_a_stretch_of_the_source_can_be_chosen(http, web):
    """From red over green to blue, one second each."""
    stops = zip((0, 30, 59), ("red", "lime", "blue"), strict=True)
    placed = [{"url": data_url(Image.new("RGB", (64, 48), colour)), "frame_index": at} for at, colour in stops]
    source = made(http, n_frames=60, inpaint_items=placed)
    chosen = items(source, source_start_frame=30, source_end_frame=59)
    remix = film(http, web, made(http, operation="remix", n_frames=30, inpaint_items=chosen))
    original = film(http, web, source)
    assert apart(remix, original[30:]) < apart(remix, original[:30]) / 1.5
    held = film(http, web, made(http, operation="blend", inpaint_items=items(source, source_end_frame=1)))
    assert difference(held[0], original[0]) < difference(held[0], original[30])


def test_the_same_remix_gives_the_same_bytes(http, web):
    source = made(http)
    tasks = [start(http, prompt=FOXES, operation="remix", sdedit=edit(source, 4)) for _ in range(2)]
    assert len({web.get(generation(http, task_id)["url"]).content for task_id in tasks}) == 1


def test_variants_of_a_remix_differ(http, web):
    task = start(http, prompt=FOXES, operation="remix", sdedit=edit(made(http), 4), n_variants=2)
    one, two = (frames_of(web.get(generation(http, task, variant)["url"]).content) for variant in range(2))
    assert apart(one, two) > 2


def test_the_second_variant_can_be_a_source(http, web):
    task = start(http, prompt="A storm at sea", n_variants=2)
    one, two = (generation(http, task, variant)["id"] for variant in range(2))
    remix = film(http, web, made(http, prompt=FOXES, operation="remix", sdedit=edit(two)))
    assert apart(remix, film(http, web, two)) < apart(remix, film(http, web, one))


# ---------------------------------------------------------------- blend


def test_a_blend_begins_as_the_first_and_ends_as_the_second(sandbox, http, web):
    one, two = made(http, prompt="A storm at sea"), made(http, prompt=FOXES)
    blend = film(http, web, made(http, prompt="Into the snow", operation="blend", inpaint_items=items(one, two)))
    first, second = film(http, web, one), film(http, web, two)
    assert difference(blend[0], first[0]) < difference(blend[0], second[0]) / 2
    assert difference(blend[-1], second[-1]) < difference(blend[-1], first[-1]) / 2
    way = [difference(frame, last) for frame, last in zip(blend, second, strict=True)]
    assert way == sorted(way, reverse=True)
    assert sandbox.creates == 3


def test_a_blend_of_an_edited_source_and_an_item_goes_from_the_one_to_the_other(http, web):
    one, two = made(http, prompt="A storm at sea"), made(http, prompt=FOXES)
    blend = film(http, web, made(http, operation="blend", sdedit=edit(one), inpaint_items=items(two)))
    first, second = film(http, web, one), film(http, web, two)
    assert difference(blend[0], first[0]) < difference(blend[0], second[0]) / 2
    assert difference(blend[-1], second[-1]) < difference(blend[-1], first[-1]) / 2


def test_a_blend_of_one_source_goes_into_the_prompt_s_scene(http, web):
    source = made(http, prompt="A storm at sea")
    blend = film(http, web, made(http, prompt=FOXES, operation="blend", inpaint_items=items(source)))
    original, plain = film(http, web, source), film(http, web, made(http, prompt=FOXES))
    assert difference(blend[0], original[0]) < difference(blend[0], plain[0]) / 2
    assert difference(blend[-1], plain[-1]) < 3


def test_pictures_can_be_blended(http, web):
    red, blue = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    named = [{"url": data_url(picture)} for picture in (red, blue)]
    blend = film(http, web, made(http, operation="blend", inpaint_items=named))
    upper = (0, 0, 30, 20)
    assert difference(blend[0].crop(upper), red.crop(upper)) < 6
    assert difference(blend[-1].crop(upper), blue.crop(upper)) < 6


# ---------------------------------------------------------------- pictures at their frames


def test_pictures_show_at_their_frames(http, web):
    red, blue = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    named = [
        {"url": data_url(blue), "frame_index": 119},
        {"url": data_url(red), "frame_index": 0},
    ]
    frames = film(http, web, made(http, prompt=FOXES, n_frames=120, inpaint_items=named))
    plain = film(http, web, made(http, prompt=FOXES, n_frames=120))
    assert difference(frames[0], red) < 5 > difference(frames[119], blue)
    assert difference(frames[60], plain[60]) < 3


def test_a_frame_of_a_video_can_be_placed_in_another(http, web):
    source = made(http, prompt="A storm at sea", n_frames=30)
    named = items(source, frame_index=5, source_start_frame=20)
    frames = film(http, web, made(http, prompt=FOXES, inpaint_items=named))
    assert difference(frames[5], film(http, web, source)[20]) < 4


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"url": "https://x/y.png", "frame_index": 6}, "inpaint_items[0].frame_index"),
        ({"source_start_frame": 5, "source_end_frame": 4}, "inpaint_items[0].source_end_frame"),
        ({"source_start_frame": 6}, "inpaint_items[0].generation_id"),
    ],
)
def test_frames_that_are_not_there_are_refused(sandbox, http, item, param):
    """A video of 6 frames, made of another of 6."""
    reply = http.post(PATH, json={**SMALL, "inpaint_items": [{"generation_id": made(http), **item}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert reply.json()["error"]["code"] == "out_of_range"
    assert sandbox.creates == 1


def test_more_sources_than_a_video_can_hold_are_refused(world):
    named = [{"url": f"https://x/{number}.png"} for number in range(17)]
    assert create(world, inpaint_items=named[:16]).status == 200
    assert create(world, inpaint_items=named).json()["error"]["param"] == "inpaint_items"


# ---------------------------------------------------------------- what can be no source


def fate(world, clock, ending):
    """A task that came to this, and what the backend's refusal says of it."""
    if ending in {"failed", "moderation_output", "moderation_input", "no_output", "cancelled"}:
        world.script("task", ending)
    if ending == "invisible":
        world.script("task", "invisible", seconds=99)
    create(world, n_variants=2)
    task = world.tasks[-1]
    clock.seconds += 3 if ending == "unfinished" else 6
    if ending == "deleted":
        assert world.receive("DELETE", f"{VIDEOS}/{task.task_id}", headers=KEY).status == 200
    return task


FATES = {
    "unfinished": ("running", "IN_PROGRESS"),
    "failed": ("failed", "FAILURE"),
    "moderation_input": ("failed", "FAILURE"),
    "moderation_output": ("succeeded", "FAILURE"),
    "cancelled": ("cancelled", "FAILURE"),
    "no_output": ("succeeded", "SUCCESS"),
    "deleted": (None, None),
    "invisible": (None, None),
}
"""What the backend and a relay call the task that came to this; None where they know of none."""


@pytest.mark.parametrize("ending", FATES)
def test_a_generation_without_a_video_is_no_source(world, clock, ending):
    task = fate(world, clock, ending)
    charged = world.charged
    for generation_id in task.generation_ids:
        for where, changes in (
            ("sdedit.source_generation_id", {"operation": "remix", "sdedit": edit(generation_id)}),
            ("inpaint_items[1].generation_id", {"inpaint_items": [{"url": ""}, *items(generation_id)]}),
            ("inpaint_items[0].generation_id", {"operation": "blend", "inpaint_items": items(generation_id)}),
        ):
            answer = create(world, **changes)
            error = answer.json()["error"]
            status, _ = FATES[ending]
            code = "generation_not_ready" if status else "generation_not_found"
            assert (answer.status, error["param"], error["code"]) == (400, where, code)
            assert (f"its task is {status}" if status else "was not found") in error["message"]
            assert generation_id in error["message"]
    assert (world.creates, world.charged) == (1, charged)


@pytest.mark.parametrize("ending", FATES)
def test_a_video_that_is_not_there_has_no_remix(world, clock, ending):
    task = fate(world, clock, ending)
    answer = world.receive("POST", f"{VIDEOS}/{task.task_id}/remix", headers=KEY, body=b'{"prompt": "x"}')
    message = answer.json()["error"]["message"]
    _, status = FATES[ending]
    if status == "SUCCESS":
        assert (answer.status, message) == (404, "Video content not found")
    elif status is None:
        assert (answer.status, message) == (404, "Task not found")
    else:
        assert (answer.status, message) == (400, f"Task is not completed yet, current status: {status}")
    assert world.creates == 1


@pytest.mark.parametrize("unknown", ["gen_1", "task", " ", "gen_" + "x" * 500])
def test_an_id_that_is_no_generation_s_is_refused(world, clock, unknown):
    create(world)
    clock.seconds += 6
    named = world.tasks[0].task_id if unknown == "task" else unknown
    answer = create(world, operation="remix", inpaint_items=items(named))
    assert (answer.status, answer.json()["error"]["code"]) == (400, "generation_not_found")
    assert (world.creates, world.charged) == (1, Decimal("0.50"))


def test_a_scripted_refusal_of_a_remix_counts_nothing(world, clock):
    create(world)
    clock.seconds += 6
    world.script("create", "rate_limit")
    body = {"operation": "remix", "sdedit": edit(world.tasks[0].generation_ids[0])}
    assert create(world, **body).status == 429
    assert world.creates == 1
    assert create(world, **body).status == 200


def test_a_client_is_told_that_its_source_is_unknown(sandbox):
    request = VideoRequest(prompt="x", operation="remix", sdedit=edit("gen_1"))
    with Sora(base_url=sandbox.base_url, api_key="any") as sora, pytest.raises(InvalidRequestError, match="gen_1"):
        sora.create(request)
    assert sandbox.creates == 0


# ---------------------------------------------------------------- sources that are made first


@pytest.fixture
def lone(monkeypatch):
    """A sandbox that makes videos when they are asked for, one at a time, and its client."""
    monkeypatch.setattr(studio, "WORKERS", 1)
    world = World(by_id=True, duration=0)
    with Sandbox(render=False, world=world) as sandbox, client_of(sandbox) as client:
        yield sandbox, client


def test_two_remixes_of_a_video_that_is_not_made_yet_do_not_wait_for_each_other(lone, web):
    _, http = lone
    source = made(http)
    urls = [
        generation(http, start(http, prompt=prompt, operation="remix", sdedit=edit(source)))["url"]
        for prompt in ("A storm at sea", FOXES)
    ]
    with ThreadPoolExecutor(2) as threads:
        replies = list(threads.map(lambda url: web.get(url, timeout=20), urls))
    assert [len(frames_of(reply.content)) for reply in replies] == [6, 6]


def test_a_long_chain_of_remixes_is_made_by_one_worker(lone, web):
    _, http = lone
    small = {"width": 16, "height": 16, "n_frames": 1, "operation": "remix"}
    last = made(http, **small)
    for _ in range(60):
        last = made(http, sdedit=edit(last), **small)
    assert len(film(http, web, last)) == 1


def test_a_family_of_blends_is_made_once_each(lone, web, tmp_path):
    """Each generation is made of the two before: as many ways lead back as there are Fibonacci numbers."""
    sandbox, http = lone
    small = {"width": 16, "height": 16, "n_frames": 1, "operation": "blend"}
    line = [made(http, **small), made(http, **small)]
    for _ in range(30):
        line.append(made(http, inpaint_items=items(*line[-2:]), **small))
    begun = time.monotonic()
    assert len(film(http, web, line[-1])) == 1
    assert time.monotonic() - begun < 30
    assert len(sandbox._running._studio._jobs) == 32


def test_a_source_that_is_deleted_later_is_still_made(lone, web):
    _, http = lone
    task_id = start(http)
    remix = made(http, operation="remix", sdedit=edit(generation(http, task_id)["id"]))
    assert http.delete(f"{VIDEOS}/{task_id}").status_code == 200
    assert len(film(http, web, remix)) == 6


def test_a_remix_of_what_cannot_be_made_says_so(lone, web):
    _, http = lone
    broken = "data:image/png;base64," + base64.b64encode(b"\x89PNG but not really").decode()
    source = made(http, inpaint_items=[{"url": broken}])
    remix = start(http, operation="remix", sdedit=edit(source))
    reply = web.get(generation(http, remix)["url"], timeout=20)
    assert reply.status_code == 500
    assert f"{source}.mp4 could not be rendered" in reply.json()["error"]["message"]
    assert len(film(http, web, made(http))) == 6, "and the worker goes on"


def test_a_video_from_before_a_restart_can_be_remixed(web):
    sandbox = Sandbox(render=False, world=World(by_id=True, duration=0))
    with sandbox, client_of(sandbox) as http:
        source = made(http)
    with sandbox, client_of(sandbox) as http:
        assert len(film(http, web, made(http, operation="remix", sdedit=edit(source)))) == 6


def test_a_remix_succeeds_when_its_video_is_there(web):
    """Where videos are made as they are ordered, a source is whole before it can be named."""
    with Sandbox(world=World(duration=0, by_id=True)) as sandbox, client_of(sandbox) as http:

        def done(task_id):
            deadline = time.monotonic() + 20
            while (task := http.get(f"{PATH}/{task_id}").json())["status"] == "running":
                assert time.monotonic() < deadline
                time.sleep(0.01)  # another process renders, in its own time
            return task["generations"][0]

        big = {"width": 640, "height": 360, "n_frames": 30}
        first = start(http, **big)
        early = http.post(PATH, json={**SMALL, "sdedit": edit(sandbox.world.tasks[0].generation_ids[0])})
        assert early.json()["error"]["code"] == "generation_not_ready"
        remix = done(start(http, operation="remix", sdedit=edit(done(first)["id"]), **big))
        video = web.get(remix["url"]).content
        assert (len(frames_of(video)), remix["encodings"]["source"]["size"]) == (30, len(video))


# ---------------------------------------------------------------- thumbnails


def picture(reply):
    assert reply.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(reply.content)) as image:
        return image.convert("RGB")


def test_thumbnails_are_the_first_picture_of_the_video_in_every_format(http, web):
    source = made(http, prompt="A storm at sea")
    red = {"url": data_url(Image.new("RGB", (64, 48), "red"))}
    for changes in (
        {},
        {"operation": "remix", "sdedit": edit(source)},
        {"operation": "blend", "inpaint_items": items(source)},
        {"inpaint_items": [red]},
    ):
        task_id = start(http, prompt=FOXES, **changes)
        told = generation(http, task_id)
        first = frames_of(web.get(told["url"]).content)[0]
        assert picture(web.get(told["encodings"]["thumbnail"]["path"])) == first, changes
        assert picture(http.get(f"{VIDEOS}/{task_id}/content", params={"variant": "thumbnail"})) == first
        unified = http.get("/v1/video/query", params={"id": task_id}).json()
        assert (
            picture(web.get(unified["thumbnail_url"])) == picture(web.get(unified["detail"]["thumbnail_url"])) == first
        )


def test_a_chat_s_thumbnail_is_the_first_picture_of_its_video(web):
    with Sandbox(render=False, world=World(duration=0)) as sandbox, client_of(sandbox) as http:
        parts = [
            {"type": "text", "text": "fly man"},
            {"type": "image_url", "image_url": {"url": data_url(Image.new("RGB", (8, 8), "red"))}},
        ]
        body = {"model": "sora-1:1-128p-1s", "stream": True, "messages": [{"role": "user", "content": parts}]}
        chunks = [line[6:] for line in http.post("/v1/chat/completions", json=body).text.splitlines() if line]
        said = "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
        thumbnail = said.partition("![")[2].partition("]")[0]
        video = said.partition("[在线播放▶️](")[2].partition(")")[0]
        first = frames_of(web.get(video).content)[0]
        assert picture(web.get(thumbnail)) == first
        assert difference(first, Image.new("RGB", first.size, "red")) < 5


def test_a_thumbnail_may_be_asked_for_before_its_video(lone, web):
    _, http = lone
    source = made(http, prompt="A storm at sea")
    told = generation(http, start(http, prompt=FOXES, operation="remix", sdedit=edit(source)))
    thumbnail = picture(web.get(told["encodings"]["thumbnail"]["path"], timeout=20))
    assert thumbnail == frames_of(web.get(told["url"]).content)[0]


def test_a_spritesheet_holds_the_video_s_pictures(http, web):
    task_id = start(http, prompt="A storm at sea")
    told = generation(http, task_id)
    frames = frames_of(web.get(told["url"]).content)
    replies = (
        web.get(told["encodings"]["spritesheet"]["path"]),
        http.get(f"{VIDEOS}/{task_id}/content", params={"variant": "spritesheet"}),
    )
    for reply in replies:
        assert reply.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(reply.content)) as sheet:
            assert sheet.size == (5 * 64, 2 * 48)
            for number, frame in enumerate(frames):
                left, top = number % 5 * 64, number // 5 * 48
                assert difference(sheet.crop((left, top, left + 64, top + 48)), frame) < 4
