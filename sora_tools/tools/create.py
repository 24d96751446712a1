"""``create_video``: the tool that spends money."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from langchain_core.tools import ArgsSchema
from pydantic import Field, SkipValidation

from .. import flow as flows
from ..addresses import site
from ..client.async_sora import AsyncSora
from ..client.sora import Sora
from ..config import Settings
from ..errors import InvalidRequestError
from ..events import Adjusted, Event, Submitted
from ..flow import Flow
from ..schemas import shortened
from . import answers
from .answers import Answer
from .arguments import CreateVideoArgs
from .shared import PATIENCE, Place, SoraTool

_DOCUMENTED_MODEL: Final = "turbo"
"""The only model that the page documents: it may be named where the operator has set none."""


class CreateVideoTool(SoraTool):
    """Start one paid video job at a Sora-format gateway, once, and return at once.

    Setup:
        Install ``sora-tools`` and set the gateway's address and key.

        .. code-block:: bash

            pip install sora-tools
            export SORA_BASE_URL="https://gateway.example"
            export SORA_API_KEY="sk-..."

    Key init args:
        base_url: The gateway's address (else ``SORA_BASE_URL``).
        api_key: The gateway's key (else ``SORA_API_KEY``).
        dialect, model, timeout, retry, ledger, idempotency, headers: As in :class:`~sora_tools.Sora`.
        private_addresses, largest_reply, largest_video, limits, price: Likewise.
        repeat: What to do with a call that asks for the very same as an earlier one of its conversation, which has not
            ended or whose fate is unknown: ``"reuse"`` its task (the default), or make a ``"new"`` one.
        sora, async_sora: Clients to use in place of these settings.

    Instantiation:
        .. code-block:: python

            from sora_tools import CreateVideoTool

            tool = CreateVideoTool(base_url="https://gateway.example", api_key="sk-...")

    Invocation with args:
        .. code-block:: python

            tool.invoke({"prompt": "fly man"})

        .. code-block:: python

            '{"task_id": "task_01...", "status": "queued", "progress": null, "next": "..."}'

        A handled error comes back from this form as ordinary text, ``{"error": ...}``. Chains that should stop at it
        take ``CreateVideoTool(handle_tool_error=False)``, which raises :class:`~sora_tools.SoraToolError`, or
        ``RunnableLambda(sora.generate)``, which raises the :class:`~sora_tools.SoraError` itself.

    Invocation with ToolCall:
        .. code-block:: python

            tool.invoke({"args": {"prompt": "fly man"}, "id": "1", "name": tool.name, "type": "tool_call"})

        .. code-block:: python

            ToolMessage(content='{"task_id": ...}', artifact={"type": "sora_video", "task": {...}, ...}, ...)

        A handled error has ``status="error"`` and no artifact.

    Raises:
        ConfigurationError: A setting is missing or cannot work.
    """

    name: str = "create_video"
    description: str = (
        "Start one video generation job and return its task_id at once. "
        "PAID: every call spends money at an external service and cannot be undone. "
        "Rendering takes minutes; get the video later with query_video and the task_id. "
        "Never call this twice for one request, not even when an earlier answer was an error that says "
        'charged "unknown" or "yes": look it up with query_video instead, by the task_id or key that it names.'
    )
    args_schema: Annotated[ArgsSchema | None, SkipValidation()] = CreateVideoArgs
    repeat: flows.Repeat = "reuse"
    metadata: dict[str, Any] | None = Field(
        default_factory=lambda: {"provider": "sora", "paid": True, "read_only": False}
    )

    def __init__(self, *, sora: Sora | None = None, async_sora: AsyncSora | None = None, **given: Any) -> None:
        super().__init__(sora=sora, async_sora=async_sora, **given)

    def _conversation(self, told: list[Event], place: Place, prompt: str = "", **arguments: Any) -> Flow[Answer]:
        gateway = self._sora.gateway
        request = flows.requested(prompt, arguments)
        own = gateway.settings.model or _DOCUMENTED_MODEL
        if request.model not in (None, own):
            raise InvalidRequestError(
                f"model: {shortened(request.model, 80)!r} was given; it is the operator's to choose, {own!r} here.",
                hint="Nothing was started and nothing was charged. Leave model out and call again.",
            )
        for index, item in enumerate(request.inpaint_items):
            _check_image(index, item.url, gateway.settings)
        request = flows.with_model(request, gateway.settings.model)
        key = place.key(gateway.settings, gateway.configured, request.body())
        task = yield from flows.create(
            gateway, request, key, thread=place.thread, repeat=self.repeat, patience=PATIENCE
        )
        submitted = next(event for event in reversed(told) if isinstance(event, Submitted))
        adjusted = [event.sentence for event in told if isinstance(event, Adjusted)]
        return answers.of_created(
            task, request, submitted.key, self._secret, reused=submitted.reused, adjusted=adjusted
        )


def _check_image(index: int, url: str, own: Settings) -> None:
    """Raise for an address that a model may not name: the gateway would fetch it, or pass it on."""
    if not url or re.match(r"data:image/[^,]*;base64,", url, re.IGNORECASE) or site(url) == site(own.base_url):
        return
    objection = own.objection(url) if url[:6].lower() == "https:" else "is not https"
    if objection:
        shown = shortened(url.partition(",")[0] if url[:5].lower() == "data:" else url, 80)
        raise InvalidRequestError(
            f"inpaint_items.{index}.url: {shown!r} was given; it {objection}. Allowed are https:// addresses of public "
            "hosts, data:image/...;base64, addresses, and the gateway's own.",
            hint="Nothing was started and nothing was charged. Give another address and call again.",
        )
