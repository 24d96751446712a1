"""What a model may say: the documented fields, shown plainly and read generously.

Providers' converters lose or refuse bounds, unions, references, constants and defaults. Models send numbers as text,
null for "none", JSON inside a string, and in strict mode every member there is. Rule: what is shown keeps to what
every converter carries, what is empty counts as absent, and :class:`~sora_tools.VideoRequest` alone judges the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticUseDefault

from ..schemas import Action, Count, InpaintItem, Operation, SDEdit, VideoRequest

Json = dict[str, Any]

_BLANK: Final = (None, "", "null")
_NOTHING: Final = (*_BLANK, 0, "0")
_PAGE: Final = VideoRequest.model_json_schema()


def _plain(schema: Mapping[str, Any]) -> Json:
    """What every converter carries of a schema: type, description, enum, items, and members with a choice."""
    first = schema.get("anyOf", [schema])[0]
    whole = _PAGE["$defs"][first["$ref"].rpartition("/")[2]] if "$ref" in first else first
    shown = {word: whole[word] for word in ("type", "enum", "required") if word in whole}
    if "description" in schema:
        shown["description"] = schema["description"]
    if "items" in whole:
        shown["items"] = _plain(whole["items"])
    if "properties" in whole:
        members = whole["properties"].items()
        shown["properties"] = {
            name: _plain(member) for name, member in members if "const" not in member and member.get("type") != "null"
        }
    return shown


def _shown(name: str) -> WithJsonSchema:
    schema = _plain(_PAGE["properties"][name])
    # Ollama's client drops the members of an object, except where the object is the item of an array.
    return WithJsonSchema({"type": "array", "items": schema} if schema["type"] == "object" else schema)


def _documented(name: str, words: str | None = None) -> Any:
    """The page's description and default. The default is a factory, which leaves no ``default`` in the schema."""
    field = VideoRequest.model_fields[name]
    described = f"{field.description} {f'Default {field.default}.' if words is None else words}"
    return Field(default_factory=lambda: field.default, description=described)


def _given(value: Any) -> Any:
    if value in _BLANK:
        raise PydanticUseDefault
    return value


def _text(value: Any) -> Any:
    return "" if value in _BLANK else value


def _objects(value: Any) -> list[Any]:
    """A list, from whatever models send for one: JSON in a string, one member bare, or nothing."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "null")
        except (ValueError, RecursionError):
            raise ValueError("must be a list of objects") from None
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def _says_nothing(value: Any, besides: str = "") -> bool:
    """Whether each member is empty, one aside."""
    return isinstance(value, Mapping) and all(value[name] in _NOTHING for name in value if name != besides)


def _items(value: Any) -> list[Any]:
    """Empty members are absent. An item of nothing else stays, as the page's own way to say that there is no image."""

    def told(item: Any) -> Any:
        if not isinstance(item, Mapping):
            return item
        return {name: member for name, member in item.items() if member not in _NOTHING} or {"url": ""}

    return [told(item) for item in _objects(value)]


def _moments(value: Any) -> list[Any]:
    moments = [moment for moment in _objects(value) if not _says_nothing(moment)]
    if not moments:
        raise PydanticUseDefault
    return moments


def _edit(value: Any) -> Any:
    """One edit, bare or as a list's only member. Without a source it is absent, whatever its strength."""
    edits = [edit for edit in _objects(value) if not _says_nothing(edit, besides="amount")]
    if not edits:
        raise PydanticUseDefault
    if len(edits) > 1:
        raise ValueError("must be one object at most")
    if not isinstance(edits[0], Mapping):
        return edits[0]
    sources = {name: edits[0].get(name) for name in ("source_generation_id", "source_upload_media_id")}
    blank = {"source_generation_id": "", "source_upload_media_id": None}
    return {**edits[0], **{name: blank[name] if source in _BLANK else source for name, source in sources.items()}}


class _Arguments(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        coerce_numbers_to_str=True,
        # Gemini's converter warns of this keyword at every turn; the providers that need it add it themselves.
        json_schema_extra=lambda schema: schema.pop("additionalProperties", None),
    )


class CreateVideoArgs(_Arguments):
    """What a model may ask for.

    ``type``, ``style`` and ``model`` are accepted, because the page documents them, and not shown: the first two have
    one value each, and the third is the operator's choice.
    """

    prompt: Annotated[str, BeforeValidator(_text), _shown("prompt")] = Field(
        description=f"{VideoRequest.model_fields['prompt'].description} Only a storyboard may leave it empty."
    )
    width: Annotated[Count, BeforeValidator(_given), _shown("width")] = _documented("width")
    height: Annotated[Count, BeforeValidator(_given), _shown("height")] = _documented("height")
    n_frames: Annotated[Count, BeforeValidator(_given), _shown("n_frames")] = _documented("n_frames")
    n_variants: Annotated[Count, BeforeValidator(_given), _shown("n_variants")] = _documented("n_variants")
    operation: Annotated[Operation, BeforeValidator(_given), _shown("operation")] = _documented("operation")
    inpaint_items: Annotated[tuple[InpaintItem, ...], BeforeValidator(_items), _shown("inpaint_items")] = _documented(
        "inpaint_items", "For an image give its url alone; the gateway finds the rest."
    )
    actions: Annotated[tuple[Action, ...] | None, BeforeValidator(_moments), _shown("actions")] = _documented(
        "actions", "Empty for any other."
    )
    sdedit: Annotated[SDEdit | None, BeforeValidator(_edit), _shown("sdedit")] = _documented(
        "sdedit", "One object at most; usually empty."
    )
    type: Annotated[SkipJsonSchema[Literal["video_gen"]], BeforeValidator(_given)] = "video_gen"
    style: Annotated[SkipJsonSchema[Literal["natural"]], BeforeValidator(_given)] = "natural"
    model: Annotated[SkipJsonSchema[str | None], BeforeValidator(_given)] = None

    @model_validator(mode="after")
    def _judged(self) -> Self:
        VideoRequest.model_validate(dict(self))
        return self


class QueryVideoArgs(_Arguments):
    """What a model may ask about."""

    model_config = ConfigDict(str_strip_whitespace=True)

    task_id: Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string"})] = Field(
        default_factory=str, description='The task_id, or else the key, that was answered. "" lists recent tasks.'
    )
    limit: Annotated[int, Field(ge=1, le=100), BeforeValidator(_given), WithJsonSchema({"type": "integer"})] = Field(
        default_factory=lambda: 10, description="When listing: how many tasks at most, 1 to 100. Default 10."
    )
    before: Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string"})] = Field(
        default_factory=str,
        description='When listing: "before" of the previous answer, for the tasks that follow. "" for the newest.',
    )
