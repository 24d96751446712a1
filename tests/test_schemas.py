"""The documented fields, held against the page they come from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from documented import EXAMPLE, FIELDS, OPEN_ENUMS, PAGE, WHOLE, WRONG, documented_values, values_at, with_value
from pydantic import BaseModel, ValidationError

from sora_tools.schemas import (
    Action,
    Failure,
    Generation,
    InpaintItem,
    RequestEcho,
    SDEdit,
    TaskPage,
    VideoRequest,
    VideoTask,
    broken_rules,
    shortened,
)

PARTS: dict[str, type[BaseModel]] = {
    "": VideoRequest,
    "actions[]": Action,
    "inpaint_items[]": InpaintItem,
    "sdedit": SDEdit,
}


def rules_broken(body: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        VideoRequest.model_validate(body)
    return broken_rules(caught.value)


def field_named(path: str) -> Any:
    part, _, name = path.rpartition(".")
    return PARTS[part].model_fields[name]


# --- the page ----------------------------------------------------------------------------------------------------


def test_every_documented_field_is_here_and_no_other():
    documented = {
        part: {name for path in FIELDS for holder, _, name in [path.rpartition(".")] if holder == part}
        for part in PARTS
    }
    assert sum(map(len, documented.values())) == len(PAGE) == 25
    for part, names in documented.items():
        assert set(PARTS[part].model_fields) - {"extra"} == names


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_says_what_it_is(path):
    assert field_named(path).description.strip()


@pytest.mark.parametrize("path", FIELDS)
def test_the_page_and_its_example_agree_on_what_is_there(path):
    assert bool(values_at(path, EXAMPLE)) is FIELDS[path]["in_example"]
    assert values_at(path), "WHOLE has every field"


@pytest.mark.parametrize("path", FIELDS)
def test_what_the_example_leaves_out_is_optional(path):
    part = path.rpartition(".")[0]
    if part in ("", "inpaint_items[]"):
        assert not field_named(path).is_required()
    else:
        assert field_named(path).is_required() is (path != "sdedit.source_upload_media_id")


@pytest.mark.parametrize("path", FIELDS)
def test_a_documented_value_is_accepted_and_sent_as_it_is(path):
    for value in documented_values(FIELDS[path]):
        sent = VideoRequest.model_validate(with_value(path, value)).body()
        assert sent == with_value(path, value)


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if field["minimum"] is not None])
def test_below_the_minimum_is_refused(path):
    least = FIELDS[path]["minimum"]
    for value in (least - 1, -least, least - 0.5):
        (rule,) = rules_broken(with_value(path, value))
        assert rule.startswith(f"{path}: {value} was given; it ")
    (rule,) = rules_broken(with_value(path, least - 1))
    assert rule == f"{path}: {least - 1} was given; it should be greater than or equal to {least}"


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if field["maximum"] is not None])
def test_above_the_maximum_is_refused(path):
    most = FIELDS[path]["maximum"]
    for value in (most + 1, most + 0.01):
        (rule,) = rules_broken(with_value(path, value))
        assert rule == f"{path}: {value} was given; it should be less than or equal to {most}"


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if field["enum"]])
def test_only_documented_values_of_an_enum_are_accepted(path):
    if path in OPEN_ENUMS:
        assert VideoRequest.model_validate(with_value(path, "wan-2.5")).body()["model"] == "wan-2.5"
        return
    (rule,) = rules_broken(with_value(path, "other"))
    assert rule.startswith(f"{path.replace('[]', '.0')}: 'other' was given; it should be ")
    for value in FIELDS[path]["enum"]:
        assert f"'{value}'" in rule


@pytest.mark.parametrize("path", FIELDS)
def test_another_type_is_refused(path):
    kind = FIELDS[path]["type"].split(" | ")[0]
    rules = rules_broken(with_value(path, WRONG[kind]))
    assert rules[0].startswith(f"{path.replace('[]', '.0')}: {WRONG[kind]!r} was given; it ")


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if field["type"] == "number"])
def test_a_number_is_a_number(path):
    for value in (True, float("nan"), float("inf"), "nan", "inf", 10**400, -1, None):
        (rule,) = rules_broken(with_value(path, value))
        assert rule.startswith(f"{path.replace('[]', '.0')}: ")


@pytest.mark.parametrize("path", ["width", "height", "n_frames", "n_variants", "inpaint_items[].frame_index"])
def test_what_is_counted_is_whole(path):
    (rule,) = rules_broken(with_value(path, 1.5))
    assert rule.startswith(f"{path.replace('[]', '.0')}: 1.5 was given; it should be a valid integer")


# --- the example -------------------------------------------------------------------------------------------------


def test_the_example_validates_and_serialises_to_itself():
    request = VideoRequest.model_validate(EXAMPLE)
    assert request.body() == EXAMPLE
    assert json.loads(json.dumps(request.body())) == EXAMPLE


def test_a_prompt_is_enough():
    assert VideoRequest(prompt="fly man").body() == {**EXAMPLE, "inpaint_items": []}


def test_a_whole_request_serialises_to_itself():
    assert VideoRequest.model_validate(WHOLE).body() == WHOLE


def test_only_given_members_of_an_item_are_sent():
    items = [{"url": "https://a.example/x.png"}, {"generation_id": "gen_1", "frame_index": 30}]
    assert VideoRequest.model_validate({**EXAMPLE, "inpaint_items": items}).body()["inpaint_items"] == items


def test_an_sdedit_is_sent_whole():
    request = VideoRequest.model_validate({**EXAMPLE, "sdedit": {"amount": 2.5, "source_generation_id": "gen_1"}})
    assert request.body()["sdedit"] == {"amount": 2.5, "source_generation_id": "gen_1", "source_upload_media_id": None}


def test_extra_members_are_sent_as_given():
    assert VideoRequest(prompt="x", extra={"seed": [1, None]}).body()["seed"] == [1, None]


# --- rules -------------------------------------------------------------------------------------------------------

NO_ACTIONS = (
    'actions: none were given; operation "storyboard" needs at least one {"time": seconds, "description": text}'
)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"prompt": ""}, "prompt: '' was given; describe the video in words"),
        ({"prompt": " \n"}, "prompt: ' \\n' was given; describe the video in words"),
        ({"operation": "storyboard"}, NO_ACTIONS),
        ({"operation": "storyboard", "actions": []}, NO_ACTIONS),
        (
            {"actions": [{"time": 0, "description": "a"}, {"time": 5.5, "description": "b"}]},
            "actions.1.time: 5.5 was given; the clip ends at 5 s (150 frames at 30 a second)",
        ),
        (
            {"actions": [{"time": -1, "description": "a"}]},
            "actions.0.time: -1 was given; it should be greater than or equal to 0",
        ),
        ({"actions": [{"time": 1, "description": " "}]}, "actions.0.description: ' ' was given; it must not be blank"),
        ({"actions": [{"time": 1}]}, "actions.0.description: nothing was given; it is required"),
        ({"seconds": 5}, "seconds: there is no such field; give documented ones only"),
        ({"inpaint_items": [{"href": "x"}]}, "inpaint_items.0.href: there is no such field; give documented ones only"),
        ({"width": True}, "width: True was given; it must be a whole number, not true or false"),
        (
            {"inpaint_items": [{"url": "man.png"}]},
            (
                "inpaint_items.0.url: 'man.png' was given; it must be an https:// (or http://) address, "
                'a data:image/...;base64, address, or "" for no image'
            ),
        ),
        (
            {"extra": {"width": 1, "prompt": ""}},
            "extra: prompt, width was given; documented members are set by their own name",
        ),
        (
            {"extra": {"seed": float("nan")}},
            "request: it cannot be written as JSON: Out of range float values are not JSON compliant",
        ),
    ],
)
def test_a_broken_rule_says_which_field_what_was_given_and_what_is_allowed(given, rule):
    said = [broken.removesuffix(": nan") for broken in rules_broken({**EXAMPLE, **given})]  # Python 3.12 adds it
    assert said == [rule]


def test_every_broken_rule_is_named_at_once():
    rules = rules_broken({**EXAMPLE, "width": 0, "height": 0, "style": "noir"})
    assert [rule.partition(":")[0] for rule in rules] == ["height", "width", "style"]


@pytest.mark.parametrize(
    "given", [{"prompt": "half \ud83d"}, {"extra": {"x": object()}}, {"inpaint_items": [{"url": "https://a/\ud83d"}]}]
)
def test_what_no_request_can_carry_is_refused_before_it_is_sent(given):
    (rule,) = rules_broken({**EXAMPLE, **given})
    assert rule.startswith("request: it cannot be written as JSON: ")


@pytest.mark.parametrize("n_frames", [1, 7, 147, 149, 150, 450])
def test_an_action_may_be_at_the_very_end(n_frames):
    VideoRequest(prompt="x", n_frames=n_frames, actions=({"time": n_frames / 30, "description": "end"},))


def test_a_storyboard_needs_no_prompt():
    body = {**EXAMPLE, "prompt": "", "operation": "storyboard", "actions": [{"time": 0, "description": "a"}]}
    assert VideoRequest.model_validate(body).body() == body


@pytest.mark.parametrize(
    "url", ["https://a.example/x.png", "HTTP://a.example", "data:image/png;base64,AA", "DATA:image/png;base64,AA", ""]
)
def test_addresses_of_images(url):
    assert InpaintItem(url=f" {url} ").url == url


@pytest.mark.parametrize(
    "url",
    ["man.png", "/man.png", "https://", "https:a.example", "file:///x", "data:text/html;base64,AA", "data:image/png,x"],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(ValidationError):
        InpaintItem(url=url)


def test_long_input_is_cut_in_a_message():
    (rule,) = rules_broken({**EXAMPLE, "style": "x" * 1000})
    assert len(rule) < 150
    assert "…" in rule


def test_shortened():
    assert (shortened("abc", 3), shortened("abcd", 3)) == ("abc", "ab…")


# --- what comes back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ("queued", False),
        ("running", False),
        ("unknown", False),
        ("succeeded", True),
        ("failed", True),
        ("cancelled", True),
    ],
)
def test_which_status_is_an_end(status, ended):
    assert VideoTask(task_id="task_1", status=status).ended is ended


@pytest.mark.parametrize("model", [*PARTS.values(), Failure, Generation, RequestEcho, VideoTask, TaskPage])
def test_models_are_values(model):
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"


def test_a_task_survives_json_without_what_the_gateway_sent():
    task = VideoTask(task_id="task_1", status="failed", failure=Failure(message="x"), raw={"id": "task_1"})
    again = VideoTask.model_validate_json(task.model_dump_json())
    assert again == task
    assert "raw={" not in repr(task)
