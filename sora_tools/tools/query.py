"""``query_video``: the tool that looks, waits a bounded while, lists, and saves where the operator gave a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from langchain_core.tools import ArgsSchema
from pydantic import Field, SkipValidation, field_validator

from .. import flow as flows
from ..client.async_sora import AsyncSora
from ..client.sora import Sora
from ..errors import ConfigurationError, SoraError, WaitTimeoutError
from ..events import Event, Seen
from ..flow import Do, Flow, Tell
from ..flow.exchange import GRACE
from ..schemas import VideoTask
from . import answers
from .answers import Answer
from .arguments import QueryVideoArgs
from .shared import LONGEST_CALL, PATIENCE, Place, SoraTool


class QueryVideoTool(SoraTool):
    """Look a video task up: its status, a bounded wait, its address, and its file where a folder was given.

    Setup:
        Install ``sora-tools`` and set the gateway's address and key.

        .. code-block:: bash

            pip install sora-tools
            export SORA_BASE_URL="https://gateway.example"
            export SORA_API_KEY="sk-..."

    Key init args:
        base_url: The gateway's address (else ``SORA_BASE_URL``).
        api_key: The gateway's key (else ``SORA_API_KEY``).
        max_wait: Seconds a call waits for the video at most, 0 to 45. The whole call spends at most 45.
        download_dir: Folder that finished videos are saved to. None saves nothing.
        list_account: Whether an empty ``task_id`` lists the account's tasks as the gateway has them, other people's
            among them, instead of this conversation's.
        dialect, model, timeout, retry, ledger, idempotency, headers: As in :class:`~sora_tools.Sora`.
        private_addresses, largest_reply, largest_video, limits, price: Likewise.
        sora, async_sora: Clients to use in place of these settings.

    Instantiation:
        .. code-block:: python

            from sora_tools import QueryVideoTool

            tool = QueryVideoTool(base_url="https://gateway.example", api_key="sk-...", max_wait=20.0)

    Invocation with args:
        .. code-block:: python

            tool.invoke({"task_id": "task_01..."})

        .. code-block:: python

            '{"task_id": "task_01...", "status": "running", "progress": 0.4, "next": "Look again with ..."}'

        A handled error comes back from this form as ordinary text, ``{"error": ...}``. Chains that should stop at it
        take ``QueryVideoTool(handle_tool_error=False)``, or ``RunnableLambda(sora.wait)``.

    Invocation with ToolCall:
        .. code-block:: python

            tool.invoke({"args": {"task_id": "task_01..."}, "id": "2", "name": tool.name, "type": "tool_call"})

        .. code-block:: python

            ToolMessage(content='{"task_id": ...}', artifact={"type": "sora_video", "task": {...}, ...}, ...)

        A task that failed is an answer, not an error of the tool: the content says ``"status": "failed"`` and why.

    Progress:
        While it waits and saves, each change of the status, the percentage or the place in the queue is a custom event
        named ``sora_video_event``, for callback handlers and ``astream_events``; a graph's
        ``stream_mode="custom"`` shows the same objects. :func:`sora_tools.events.described` says what is in them.

        .. code-block:: python

            from langchain.agents import create_agent

            agent = create_agent(model, [tool])
            for news in agent.stream({"messages": [("user", "Is task_01... ready?")]}, stream_mode="custom"):
                print(news["message"])  # queued, 3 ahead ... running, 42%

    Raises:
        ConfigurationError: A setting is missing or cannot work.
    """

    name: str = "query_video"
    description: str = (
        "Look up a video that create_video started: its status, its progress, and its address once it is finished. "
        "Free and read-only. It waits a few seconds for the video; when it is not finished by then, tell the user and "
        "look again later, do not call this many times in a row. An empty task_id lists recent tasks."
    )
    args_schema: Annotated[ArgsSchema | None, SkipValidation()] = QueryVideoArgs
    metadata: dict[str, Any] | None = Field(
        default_factory=lambda: {"provider": "sora", "paid": False, "read_only": True}
    )
    max_wait: float = 20.0
    download_dir: Path | None = None
    list_account: bool = False

    def __init__(self, *, sora: Sora | None = None, async_sora: AsyncSora | None = None, **given: Any) -> None:
        super().__init__(sora=sora, async_sora=async_sora, **given)

    @field_validator("max_wait")
    @classmethod
    def _bounded(cls, seconds: float) -> float:
        if not 0 <= seconds <= LONGEST_CALL:
            raise ConfigurationError(f"max_wait={seconds!r} was given; 0 to {LONGEST_CALL:g} seconds are allowed.")
        return seconds

    def _conversation(
        self, _told: list[Event], place: Place, task_id: str = "", limit: int = 10, before: str = ""
    ) -> Flow[Answer]:
        if not task_id:
            return (yield from self._list(place.thread, limit, before or None))
        gateway = self._sora.gateway
        deadline = gateway.clock() + PATIENCE
        task, unsaved = (yield from self._look(task_id, deadline)), None
        if self.download_dir is not None and task.status == "succeeded":
            folder = self.download_dir.expanduser().absolute()
            try:
                task = yield from flows.download(gateway, task, folder, deadline)
            except SoraError as error:
                unsaved = error
        return answers.of_looked(task, self._secret, unsaved)

    def _look(self, task_id: str, deadline: float) -> Flow[VideoTask]:
        gateway = self._sora.gateway
        if self.max_wait > 0:
            try:
                return (yield from flows.wait(gateway, task_id, min(self.max_wait, LONGEST_CALL - GRACE)))
            except WaitTimeoutError as error:
                if isinstance(error.task, VideoTask):
                    return error.task
        task = yield from flows.query(gateway, task_id, deadline - gateway.clock())
        yield Tell(Seen(task))
        return task

    def _list(self, thread: str | None, limit: int, before: str | None) -> Flow[Answer]:
        gateway = self._sora.gateway
        if self.list_account:
            return answers.of_page((yield from flows.listed(gateway, limit, before, PATIENCE)), self._secret)
        own = gateway.settings
        rows = yield Do(gateway.ledger.of_thread, (own.origin, own.account, thread, limit, before))
        return answers.of_submissions(rows, limit, self._secret)
