"""The documented fields, once: what a gateway is asked for, and what it answers, in the documentation's own names.

Source: 宇博API 接口对接, 官方格式, 创建视频 (``POST /sora/backend/video_gen``, as of 2024-12-14,
https://sqjb48y5cm.apifox.cn/api-244434597), called "the page" below. The page's example
body is the authority: its "required" flags contradict it, so what the example leaves out is optional here, and the
example validates as it stands and serialises back to the same JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

FRAMES_PER_SECOND: Final = 30
"""Frames in a second of video. The format never states it; every known body has ``n_frames = 30 * seconds``."""

CARRIED: Final = "data:video/mp4;base64,"
"""How the address of a video begins that came within the gateway's answer."""

MOST_VARIANTS: Final = 100
"""Variants of one task at most: what a gateway lists beyond would be paid for, and never fetched."""

Operation = Literal["simple_compose", "storyboard", "remix", "blend"]
TaskStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "unknown"]
FailureKind = Literal[
    "moderation_input", "moderation_output", "no_output", "upstream", "timeout", "cancelled", "unknown"
]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _image_url(url: str) -> str:
    scheme, _, rest = url.strip().partition(":")
    if not url.strip() or (scheme.lower() in ("http", "https") and rest.startswith("//") and len(rest) > 2):
        return url.strip()
    if scheme.lower() == "data" and rest.lower().startswith("image/") and ";base64," in rest.lower():
        return url.strip()
    raise ValueError('must be an https:// (or http://) address, a data:image/...;base64, address, or "" for no image')


def _whole(value: Any) -> Any:
    """The page says "number" where only whole ones make sense: 150.0 is 150, true is not 1."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _finite(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("must be a finite number")
    return value


# Beyond 2**53 a JSON number is no longer exact.
Count = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=2**53)]
FrameIndex = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=2**53)]
Number = Annotated[float, BeforeValidator(_finite), Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


class Action(_Part):
    """One moment of a storyboard (the page: ``actions``, 视频动作列表)."""

    time: Annotated[Number, Field(ge=0)] = Field(
        description="When the action happens, in seconds from the start of the clip."
    )
    description: Annotated[str, AfterValidator(_not_blank)] = Field(description="What happens at that time.")


class InpaintItem(_Part):
    """An image, or a stretch of an earlier video, to build on (the page: ``inpaint_items``, 图像修复项列表).

    ``url`` alone is enough: the page says the gateway finds the other members by itself. Only the members that were
    given are sent.
    """

    type: Literal["image"] = Field(default="image", description="Kind of the item. Only image is documented.")
    url: Annotated[str, AfterValidator(_image_url)] = Field(
        default="", description='Address of the image (https, or data:image/...;base64,). "" means no image.'
    )
    frame_index: FrameIndex = Field(
        default=0, description="Frame of the new video at which the item is placed, from 0."
    )
    preset_id: None = Field(default=None, description="Documented as null.")
    generation_id: str | None = Field(
        default=None, description="Generation to take the item from. The page documents null; gateways also read ids."
    )
    upload_media_id: str = Field(default="", description="Id of media uploaded to the gateway before.")
    source_start_frame: FrameIndex = Field(default=0, description="First frame to use of a source video.")
    source_end_frame: FrameIndex = Field(default=0, description="Last frame to use of a source video.")


class SDEdit(_Part):
    """How far to move away from a source (the page: ``sdedit``, SDE 随机扩散编辑)."""

    amount: Annotated[Number, Field(ge=1, le=8)] = Field(
        description="Strength of the edit, 1 (stay close) to 8 (go far)."
    )
    source_generation_id: str = Field(description="Generation to start from.")
    source_upload_media_id: str | None = Field(default=None, description="Uploaded media to start from, or null.")


class VideoRequest(_Part):
    """What to make: the body of a create, field for field as the page documents it.

    The nine members of the page's example are always sent; ``model``, ``actions`` and ``sdedit`` only when set.

    Raises:
        pydantic.ValidationError: A value breaks a documented bound or a rule the gateway would certainly refuse. The
            clients raise it as :class:`~sora_tools.InvalidRequestError`.
    """

    type: Literal["video_gen"] = Field(
        default="video_gen", description="Kind of generation. Only video_gen is documented."
    )
    prompt: str = Field(default="", description="Text that describes the video.")
    n_variants: Count = Field(
        default=1, description="How many variants to make, 1 to 100. Each is a video and is paid for."
    )
    n_frames: Count = Field(default=150, description="Length in frames, 1 or more, at 30 a second: 150 is 5 s.")
    height: Count = Field(default=480, description="Height of the video in pixels, 1 or more.")
    width: Count = Field(default=854, description="Width of the video in pixels, 1 or more.")
    style: Literal["natural"] = Field(default="natural", description="Style of the video. Only natural is documented.")
    inpaint_items: tuple[InpaintItem, ...] = Field(
        default=(), description="Images or earlier generations to build on. Empty for text to video."
    )
    operation: Operation = Field(
        default="simple_compose",
        description="simple_compose: from the prompt. storyboard: from actions at given times. "
        "remix: from reference media. blend: from one source into another.",
    )
    model: str | None = Field(default=None, description='The gateway\'s model name. The page documents "turbo".')
    actions: tuple[Action, ...] | None = Field(default=None, description="What happens when. For operation storyboard.")
    sdedit: SDEdit | None = Field(default=None, description="How far to move away from a source generation.")
    extra: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Members beyond the documented ones, sent as given. Never the model's to fill.",
    )

    @model_validator(mode="after")
    def _would_be_refused(self) -> Self:
        if not self.prompt.strip() and self.operation != "storyboard":
            raise ValueError(f"prompt: {self.prompt!r} was given; describe the video in words")
        if self.operation == "storyboard" and not self.actions:
            raise ValueError(
                'actions: none were given; operation "storyboard" needs at least one {"time": seconds, '
                '"description": text}'
            )
        if self.n_variants > MOST_VARIANTS:
            raise ValueError(f"n_variants: {self.n_variants} was given; {MOST_VARIANTS} can be read back at most")
        seconds = self.n_frames / FRAMES_PER_SECOND
        for index, action in enumerate(self.actions or ()):
            if action.time > seconds:
                raise ValueError(
                    f"actions.{index}.time: {action.time:g} was given; the clip ends at {seconds:g} s "
                    f"({self.n_frames} frames at {FRAMES_PER_SECOND} a second)"
                )
        if taken := sorted(type(self).model_fields.keys() & self.extra.keys()):
            raise ValueError(f"extra: {', '.join(taken)} was given; documented members are set by their own name")
        try:
            json.dumps(self.body(), allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"request: it cannot be written as JSON: {error}") from error
        return self

    def body(self) -> dict[str, Any]:
        """The request as the JSON object the page documents."""
        given = self.model_dump(mode="json", exclude={"inpaint_items", "extra"}, exclude_none=True)
        if self.sdedit is not None:
            given["sdedit"] = self.sdedit.model_dump(mode="json")
        items = [item.model_dump(mode="json", exclude_unset=True) for item in self.inpaint_items]
        return {**given, "inpaint_items": items, **self.extra}


class Failure(_Part):
    """Why a task ended without a video."""

    kind: FailureKind = "unknown"
    message: str = ""
    code: str | None = None


class Generation(_Part):
    """One variant of a finished task."""

    generation_id: str | None = None
    url: str | None = Field(
        default=None, description="Where the MP4 is. Often signed, and gone after some hours or days."
    )
    thumbnail_url: str | None = None
    width: int | None = Field(default=None, description="Pixels.")
    height: int | None = Field(default=None, description="Pixels.")
    n_frames: int | None = None
    duration: float | None = Field(default=None, description="Seconds.")
    encodings: Mapping[str, str] = Field(default_factory=dict, description="Other renditions by name: address.")
    expires_at: datetime | None = Field(default=None, description="When the address stops working, where it says so.")
    needs_key: bool = Field(default=False, description="Whether the address opens with the gateway's key only.")
    file: Path | None = Field(default=None, description="Where the video was saved on this machine, once it was.")


class EchoedAction(_Part):
    """A storyboard moment as a gateway reads it back: by frame, by time, or both."""

    description: str
    time: float | None = None
    frame_index: int | None = None


class RequestEcho(_Part):
    """What the gateway says was asked for. Every member may be missing."""

    prompt: str | None = None
    operation: str | None = None
    model: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    n_variants: int | None = None
    actions: tuple[EchoedAction, ...] = ()


class VideoTask(_Part):
    """One create and what has become of it.

    ``succeeded`` means that a usable video address exists. A status word nobody knows is ``unknown``, which is not
    an end, and is kept in ``raw_status``. Every other member may be None.
    """

    task_id: str
    status: TaskStatus
    raw_status: str | None = None
    progress: float | None = Field(default=None, description="0 to 1.")
    queue_position: int | None = None
    queue_wait: float | None = Field(default=None, description="Seconds until it starts, as the gateway estimates.")
    queue_message: str | None = None
    title: str | None = None
    generations: tuple[Generation, ...] = ()
    failure: Failure | None = None
    request: RequestEcho | None = None
    created_at: datetime | None = None
    poll_after: float | None = Field(
        default=None, description="Seconds after which the gateway asked to be looked at again."
    )
    dialect: str = ""
    raw: Mapping[str, Any] = Field(default_factory=dict, repr=False, description="The gateway's own object.")

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to this task."""
        return self.status in ("succeeded", "failed", "cancelled")


class TaskPage(_Part):
    """One page of the gateway's list, newest first.

    ``before`` asks for the next one; None when this is the last. ``whole`` is false where the gateway may have more,
    and gives no way to ask for it.
    """

    tasks: tuple[VideoTask, ...] = ()
    before: str | None = None
    whole: bool = True


def broken_rules(error: ValidationError) -> list[str]:
    """Each broken rule as one line: which field, what was given, what is allowed."""
    return [_broken_rule(detail) for detail in error.errors(include_url=False)]


def _broken_rule(detail: Mapping[str, Any]) -> str:
    field, given, kind = ".".join(map(str, detail["loc"])), detail["input"], detail["type"]
    said = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if not field:
        return said
    if kind == "missing":
        return f"{field}: nothing was given; it is required"
    if kind == "extra_forbidden":
        return f"{field}: there is no such field; give documented ones only"
    return f"{field}: {_quoted(given)} was given; it {said}"


def _quoted(value: object) -> str:
    try:
        return shortened(repr(value), 80)
    except (RecursionError, ValueError):  # nested too deep, or a number too long to print
        return f"a {type(value).__name__} too large to show"


def shortened(text: str, length: int) -> str:
    """The text, cut to so many characters with an ellipsis as the last."""
    return text if len(text) <= length else text[: length - 1] + "…"
