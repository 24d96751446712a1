"""The unified format: what it is asked, and what it cannot say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_tools.dialects import dialect
from sora_tools.dialects.asking import least_of
from sora_tools.errors import InvalidRequestError, SoraError
from sora_tools.schemas import VideoRequest

UNIFIED = dialect("unified")
MAN = {"url": "https://images.example/man.png"}


def request(**members: Any) -> VideoRequest:
    return VideoRequest.model_validate({"prompt": "fly man", "model": "sora-2", **members})


def body(**members: Any) -> dict[str, Any]:
    return dict(UNIFIED.create(request(**members), "key-1").body or {})


def test_a_create_is_the_documented_body():
    call = UNIFIED.create(request(width=1280, height=720, n_frames=300), "key-1")
    assert (call.method, call.path) == ("POST", "/v1/video/create")
    assert call.body == {
        "model": "sora-2",
        "prompt": "fly man",
        "images": [],
        "orientation": "landscape",
        "size": "small",
        "duration": 10,
    }
    assert call.headers == {"Idempotency-Key": "key-1"}
    assert UNIFIED.adjusted(request(width=1280, height=720, n_frames=300)) == ()


def test_a_look_asks_by_the_id_as_it_is():
    call = UNIFIED.look("sora-2:task_01k6redacted")
    assert call is not None
    assert (call.method, call.path, call.query) == ("GET", "/v1/video/query", {"id": "sora-2:task_01k6redacted"})
    assert UNIFIED.looks_by_id
    assert UNIFIED.list(10, None) is None


@pytest.mark.parametrize(
    ("width", "height", "orientation", "size"),
    [
        (854, 480, "landscape", "small"),
        (480, 854, "portrait", "small"),
        (480, 480, "landscape", "small"),
        (720, 1280, "portrait", "small"),
        (1281, 721, "landscape", "large"),
        (1920, 1080, "landscape", "large"),
        (4096, 4096, "landscape", "large"),
    ],
)
def test_the_smallest_size_that_holds_what_was_asked(width, height, orientation, size):
    sent = body(width=width, height=height)
    assert (sent["orientation"], sent["size"]) == (orientation, size)


@pytest.mark.parametrize(
    ("n_frames", "duration"), [(1, 10), (150, 10), (300, 10), (301, 15), (450, 15), (451, 25), (750, 25), (9_000, 25)]
)
def test_the_shortest_length_that_holds_what_was_asked(n_frames, duration):
    assert body(n_frames=n_frames)["duration"] == duration


@given(allowed=st.lists(st.integers(1, 100), min_size=1), asked=st.floats(0.01, 200))
def test_nothing_is_made_shorter_unless_nothing_is_longer(allowed, asked):
    made = least_of(allowed, asked)
    assert made in allowed
    assert made >= asked or made == max(allowed)
    assert not any(asked <= other < made for other in allowed)


def test_what_is_made_otherwise_is_said():
    duration, size = UNIFIED.adjusted(request(n_frames=150))
    assert duration == "duration: 10 s is made where 5 s was asked for; this format has 10, 15 and 25 s."
    assert size.startswith(
        "size: small, about 1280x720, is made where 854x480 was asked for; this format has small and"
    )
    assert UNIFIED.adjusted(request(width=1080, height=1920, n_frames=3_000)) == (
        "duration: 25 s is made where 100 s was asked for; this format has 10, 15 and 25 s.",
    )
    own = {"duration": 5, "size": "480p"}
    assert UNIFIED.adjusted(request(extra=own)) == (), "the operator said it in the format's own words"
    assert body(extra=own)["duration"] == 5


def test_images_go_by_their_address():
    assert body(inpaint_items=[MAN, {"url": ""}, {"url": "data:image/png;base64,AA=="}])["images"] == [
        MAN["url"],
        "data:image/png;base64,AA==",
    ]
    assert body(operation="remix", inpaint_items=[MAN])["images"] == [MAN["url"]]


SOURCE = {"amount": 2, "source_generation_id": "gen_1"}


@pytest.mark.parametrize("name", ["unified", "generations"])
@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"operation": "storyboard", "actions": [{"time": 0, "description": "takes off"}]}, "operation: storyboard"),
        ({"operation": "blend", "inpaint_items": [MAN]}, "operation: blend"),
        ({"operation": "remix"}, "operation: remix"),
        ({"operation": "remix", "inpaint_items": [{"url": ""}]}, "operation: remix"),
        ({"actions": [{"time": 0, "description": "takes off"}]}, "actions: 1"),
        ({"sdedit": SOURCE}, "sdedit: amount 2"),
        ({"n_variants": 2}, "n_variants: 2"),
        ({"inpaint_items": [{"generation_id": "gen_1"}]}, "inpaint_items.0.generation_id: 'gen_1'"),
        ({"inpaint_items": [MAN, {**MAN, "frame_index": 3}]}, "inpaint_items.1.frame_index: 3"),
        ({"inpaint_items": [{"upload_media_id": "media_1"}]}, "inpaint_items.0.upload_media_id: 'media_1'"),
        ({"inpaint_items": [{**MAN, "source_end_frame": 9}]}, "inpaint_items.0.source_end_frame: 9"),
    ],
)
def test_what_the_format_cannot_say_is_refused_before_anything_is_sent(name, members, field):
    with pytest.raises(InvalidRequestError) as caught:
        dialect(name).create(request(**members), "key-1")
    assert str(caught.value).startswith(f"{field} was given; the {name} format ")
    assert caught.value.hint.endswith(". Nothing was sent.")
    assert (caught.value.charged, caught.value.retryable) == ("no", False)


@pytest.mark.parametrize("name", ["unified", "generations"])
@pytest.mark.parametrize("model", [None, " "])
def test_a_model_has_to_be_named(name, model):
    with pytest.raises(SoraError, match="SORA_MODEL") as caught:
        dialect(name).create(request(model=model), "key-1")
    assert (caught.value.code, caught.value.charged) == ("configuration", "no")
