"""What models are shown, and what they may say: all of it offline, none of it sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_anthropic.chat_models import convert_to_anthropic_tool
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_google_genai._function_utils import convert_to_genai_function_declarations
from ollama._client import _copy_tools

from sora_tools import CreateVideoTool, QueryVideoTool, VideoRequest
from sora_tools.tools.arguments import CreateVideoArgs, QueryVideoArgs

GATEWAY = {"base_url": "https://gateway.test", "api_key": "sk-secret-key"}
CREATE, QUERY = CreateVideoTool(**GATEWAY), QueryVideoTool(**GATEWAY)
SEED = {
    "type": "video_gen",
    "prompt": "fly man",
    "n_variants": 1,
    "n_frames": 150,
    "height": 480,
    "width": 854,
    "style": "natural",
    "inpaint_items": [{"url": ""}],
    "operation": "simple_compose",
}
SHOWN = {
    *("prompt", "width", "height", "n_frames", "n_variants", "operation"),
    *("inpaint_items", "actions", "sdedit"),
}
FIELDS = json.loads((Path(__file__).parent / "seed_fields.json").read_text(encoding="utf-8"))


def body(**arguments: Any) -> dict[str, Any]:
    """What would be sent for these arguments."""
    return VideoRequest.model_validate(dict(CreateVideoArgs(**{"prompt": "fly man", **arguments}))).body()


def refusal(tool: BaseTool, **arguments: Any) -> str:
    """What the model is told of arguments that are refused."""
    error = json.loads(tool.invoke(arguments))["error"]
    assert (error["code"], error["charged"], error["retryable"]) == ("invalid_request", "no", False)
    assert "Nothing was started" in error["hint"]
    return str(error["message"])


# --- five converters ---------------------------------------------------------------------------------------------


def openai(tool: BaseTool) -> dict[str, Any]:
    return convert_to_openai_tool(tool)["function"]["parameters"]


def openai_strict(tool: BaseTool) -> dict[str, Any]:
    return convert_to_openai_tool(tool, strict=True)["function"]["parameters"]


def anthropic(tool: BaseTool) -> dict[str, Any]:
    return dict(convert_to_anthropic_tool(tool)["input_schema"])


def gemini(tool: BaseTool) -> dict[str, Any]:
    (converted,) = convert_to_genai_function_declarations([tool])
    (declaration,) = converted.function_declarations or ()
    return _lowered(declaration.parameters.model_dump(mode="json", exclude_none=True))


def ollama(tool: BaseTool) -> dict[str, Any]:
    (copied,) = _copy_tools([convert_to_openai_tool(tool)])
    return copied.model_dump(exclude_none=True)["function"]["parameters"]


def _lowered(schema: dict[str, Any]) -> dict[str, Any]:
    """Gemini spells types in capitals."""
    members = {name: _lowered(member) for name, member in schema.get("properties", {}).items()}
    return {
        **schema,
        "type": schema["type"].lower(),
        **({"properties": members} if members else {}),
        **({"items": _lowered(schema["items"])} if "items" in schema else {}),
    }


def told(schema: dict[str, Any]) -> dict[str, Any]:
    """What a converted schema still says of each property, at every depth."""
    return {
        name: {
            **{word: member.get(word) for word in ("type", "description", "enum")},
            "members": told(member.get("items", {})),
        }
        for name, member in schema.get("properties", {}).items()
    }


@pytest.mark.parametrize("convert", [openai, openai_strict, anthropic, gemini, ollama])
@pytest.mark.parametrize("tool", [CREATE, QUERY], ids=lambda tool: tool.name)
def test_check_02_every_converter_carries_the_whole_schema(tool, convert):
    converted = told(convert(tool))
    assert converted == told(tool.tool_call_schema.model_json_schema())
    every = [*converted.values(), *(inner for outer in converted.values() for inner in outer["members"].values())]
    assert all(member["type"] and member["description"] for member in every)


def test_the_model_is_shown_what_it_may_decide_and_nothing_else():
    assert set(openai(CREATE)["properties"]) == SHOWN
    assert set(openai(QUERY)["properties"]) == {"task_id", "limit", "before"}
    items = told(openai(CREATE))["inpaint_items"]["members"]
    assert set(items) == {
        *("url", "frame_index", "generation_id", "upload_media_id", "source_start_frame", "source_end_frame")
    }
    assert told(openai(CREATE))["operation"]["enum"] == ["simple_compose", "storyboard", "remix", "blend"]
    assert set(told(openai(CREATE))["sdedit"]["members"]) == {
        *("amount", "source_generation_id", "source_upload_media_id")
    }


@pytest.mark.parametrize("schema", [CREATE.tool_call_schema, QUERY.tool_call_schema, CreateVideoArgs, QueryVideoArgs])
def test_check_02_no_keyword_that_a_provider_refuses(schema):
    def keywords(node: Any) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(keywords, node))
        if not isinstance(node, dict):
            return set()
        here = set(node) - {"properties"}
        members = node.get("properties", {}).values()
        return here.union(*map(keywords, members), *(keywords(value) for key, value in node.items() if key == "items"))

    allowed = {"title", "description", "type", "enum", "items", "required"}
    assert keywords(schema.model_json_schema()) <= allowed


@pytest.mark.parametrize("tool", [CREATE, QUERY], ids=lambda tool: tool.name)
def test_descriptions_fit_every_provider(tool):
    assert 0 < len(tool.description) < 1024
    assert tool.metadata is not None
    assert tool.metadata["provider"] == "sora"


def test_what_costs_money_says_so():
    assert "PAID" in CREATE.description
    assert (CREATE.metadata["paid"], CREATE.metadata["read_only"]) == (True, False)
    assert (QUERY.metadata["paid"], QUERY.metadata["read_only"]) == (False, True)


# --- the page's fields, by behaviour -------------------------------------------------------------------------------


def placed(field: str, value: Any) -> dict[str, Any]:
    """Arguments in which this field has this value and all others are sound."""
    outer, _, inner = field.replace("[]", "").partition(".")
    if not inner:
        return {"operation": "storyboard" if outer == "actions" else "simple_compose", outer: value}
    sound: dict[str, Any] = {
        "actions": {"time": 1, "description": "he lands"},
        "inpaint_items": {"url": "https://images.test/a.png"},
        "sdedit": {"amount": 4, "source_generation_id": "gen_1", "source_upload_media_id": None},
    }[outer]
    changed = {**sound, inner: value}
    where = {"operation": "storyboard"} if outer == "actions" else {}
    return {**where, outer: changed if outer == "sdedit" else [changed]}


def sound_value(row: dict[str, Any]) -> Any:
    if row["enum"]:
        return row["enum"][-1] if row["field"] != "operation" else "remix"
    special = {
        "actions": [{"time": 1, "description": "he lands"}],
        "inpaint_items": [{"url": "https://images.test/a.png"}],
        "inpaint_items[].url": "https://images.test/b.png",
        "sdedit": {"amount": 4, "source_generation_id": "gen_1", "source_upload_media_id": None},
    }
    plain = {"number": 2, "string": "words", "null": None, "string | null": "upload_1"}
    return special[row["field"]] if row["field"] in special else plain[row["type"]]


def found(sent: dict[str, Any], field: str) -> Any:
    outer, _, inner = field.replace("[]", "").partition(".")
    value = sent[outer]
    return value if not inner else (value if isinstance(value, dict) else value[0])[inner]


@pytest.mark.parametrize("row", FIELDS, ids=lambda row: row["field"])
def test_every_documented_field_is_taken_and_sent(row):
    value = sound_value(row)
    sent = body(**placed(row["field"], value))
    if row["type"] != "null":  # a null says nothing, so it is not sent
        assert found(sent, row["field"]) == value


@pytest.mark.parametrize("row", [row for row in FIELDS if row["minimum"] is not None], ids=lambda row: row["field"])
def test_documented_bounds_hold(row):
    assert body(**placed(row["field"], row["minimum"]))
    message = refusal(CREATE, prompt="fly man", **placed(row["field"], row["minimum"] - 1))
    assert row["field"] in message
    if row["maximum"] is not None:
        assert body(**placed(row["field"], row["maximum"]))
        assert row["field"] in refusal(CREATE, prompt="fly man", **placed(row["field"], row["maximum"] + 1))


@pytest.mark.parametrize(
    "row", [row for row in FIELDS if row["enum"] and row["field"] != "model"], ids=lambda row: row["field"]
)
def test_documented_choices_hold(row):
    for choice in row["enum"]:
        actions = [{"time": 1, "description": "he lands"}] if choice == "storyboard" else []
        assert body(**{"actions": actions, **placed(row["field"], choice)})
    assert row["field"].replace("[]", ".0") in refusal(CREATE, prompt="fly man", **placed(row["field"], "other"))


@pytest.mark.parametrize("row", [row for row in FIELDS if row["in_example"]], ids=lambda row: row["field"])
def test_the_example_is_taken_field_for_field(row):
    assert found(body(**SEED), row["field"]) == found(SEED, row["field"])


def test_the_pages_example_is_sent_as_it_stands():
    assert json.dumps(body(**SEED), sort_keys=True) == json.dumps(SEED, sort_keys=True)


# --- sloppy models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [640, "640", 640.0, "640.0", " 640 "], ids=repr)
def test_check_02_numbers_in_any_spelling(value):
    assert body(width=value)["width"] == 640


@pytest.mark.parametrize("value", [None, "", "null"], ids=repr)
@pytest.mark.parametrize("name", sorted(SHOWN - {"prompt"} | {"type", "style", "model"}))
def test_check_02_empty_means_absent(name, value):
    assert body(**{name: value}) == body()


@pytest.mark.parametrize(
    "value", [[], (), "[]", {}, [{}], {"url": ""}, '{"url": ""}', [{"url": "", "frame_index": 0}]], ids=repr
)
def test_no_image_in_any_spelling(value):
    assert body(inpaint_items=value)["inpaint_items"] in ([], [{"url": ""}])


def test_empty_members_beside_an_image_are_absent():
    strict = {
        "url": "https://images.test/a.png",
        "frame_index": 0,
        "generation_id": "",
        "upload_media_id": None,
        "source_start_frame": "0",
        "source_end_frame": 0.0,
    }
    for given in ([strict], strict, json.dumps([strict]), json.dumps(strict)):
        assert body(inpaint_items=given)["inpaint_items"] == [{"url": "https://images.test/a.png"}]


@pytest.mark.parametrize(
    "value",
    [
        [],
        "[]",
        {},
        [{"amount": 0, "source_generation_id": "", "source_upload_media_id": ""}],
        [{"amount": 4, "source_generation_id": "", "source_upload_media_id": None}],
        {"amount": 1, "source_generation_id": "null"},
    ],
)
def test_an_edit_without_a_source_is_absent(value):
    assert "sdedit" not in body(sdedit=value)


def test_an_edit_as_the_page_and_as_the_schema_have_it():
    page = {"amount": 4, "source_generation_id": "gen_1", "source_upload_media_id": None}
    shown = {"amount": "4", "source_generation_id": "gen_1", "source_upload_media_id": ""}
    for given in (page, [shown], json.dumps(page), json.dumps([shown])):
        assert body(sdedit=given)["sdedit"] == page
    uploaded = {"amount": 2, "source_generation_id": "", "source_upload_media_id": "up_1"}
    assert body(sdedit=uploaded)["sdedit"] == uploaded


def test_moments_that_say_nothing_are_absent():
    nothing, something = {"time": 0, "description": ""}, {"time": "1.5", "description": "he lands"}
    assert "actions" not in body(actions=[nothing])
    sent = body(operation="storyboard", actions=json.dumps([something, nothing]))
    assert sent["actions"] == [{"time": 1.5, "description": "he lands"}]


def test_strict_mode_sends_every_member():
    everything = dict.fromkeys(openai_strict(CREATE)["required"])
    assert set(everything) == SHOWN
    assert body(**{**everything, "prompt": "fly man"}) == body()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "prompt: nothing was given"),
        ({"prompt": " "}, "prompt: ' ' was given"),
        ({"prompt": None}, "prompt: '' was given"),
        ({"prompt": "fly", "seconds": 4}, "seconds: there is no such field"),
        ({"prompt": "fly", "extra": {"a": 1}}, "extra: there is no such field"),
        ({"prompt": "fly", "width": True}, "width: True was given"),
        ({"prompt": "fly", "width": 1.5}, "width: 1.5 was given"),
        ({"prompt": "fly", "n_variants": -1}, "n_variants: -1 was given"),
        ({"prompt": "fly", "operation": "mix"}, "'simple_compose', 'storyboard', 'remix' or 'blend'"),
        ({"prompt": "fly", "operation": "storyboard"}, "actions: none were given"),
        ({"prompt": "fly", "actions": [{"time": 9, "description": "lands"}]}, "the clip ends at 5 s"),
        ({"prompt": "fly", "actions": "he lands"}, "actions: 'he lands' was given; it must be a list"),
        ({"prompt": "fly", "inpaint_items": [{"url": "file:///etc/passwd"}]}, "inpaint_items.0.url: 'file:"),
        ({"prompt": "fly", "inpaint_items": ["https://images.test/a.png"]}, "inpaint_items.0: 'https:"),
        ({"prompt": "fly", "sdedit": [{"amount": 1, "source_generation_id": "g"}] * 2}, "one object at most"),
        ({"prompt": "fly", "sdedit": {"amount": 0, "source_generation_id": "g"}}, "sdedit.amount: 0 was given"),
        ({"prompt": "fly", "sdedit": [5]}, "sdedit: 5 was given"),
        ({"prompt": "fly", "sdedit": "x"}, "sdedit: 'x' was given"),
        ({"prompt": "fly", "type": "image_gen"}, "type: 'image_gen' was given"),
        ({"prompt": "fly", "width": 0, "height": "tall"}, "height: 'tall' was given"),
    ],
)
def test_check_02_a_broken_rule_names_field_value_and_remedy(arguments, said):
    assert said in refusal(CREATE, **arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task_id": "a", "limit": 0}, "limit: 0 was given"),
        ({"task_id": "a", "limit": 101}, "limit: 101 was given"),
        ({"video_id": "a"}, "video_id: there is no such field"),
        ({"task_id": ["a"]}, "task_id: ['a'] was given"),
    ],
)
def test_query_arguments(arguments, said):
    assert said in refusal(QUERY, **arguments)


def test_query_arguments_in_any_spelling():
    read = QueryVideoArgs.model_validate({"task_id": " task_1 ", "limit": "5", "before": None})
    assert (read.task_id, read.limit, read.before) == ("task_1", 5, "")
    assert QueryVideoArgs.model_validate({"task_id": 12, "limit": None}).task_id == "12"
    assert QueryVideoArgs().limit == 10
