"""The LangChain tools: ``create_video`` starts a paid job, ``query_video`` looks at it, waits, lists and downloads.

Rules. A model is shown only what it may decide; money, waiting, folders, keys and the gateway's model are the
operator's. One call spends at most 45 seconds. Whatever the gateway did is answered as one line of JSON; only a bug
raises. No pydantic error may leave a run: LangChain would read it as a mistake in the arguments and have the model
call again, and a create is paid for each time. Only this package knows langchain_core.
"""

from __future__ import annotations

from .answers import SoraToolError
from .approval import video_approval
from .blocks import content_blocks
from .create import CreateVideoTool
from .query import QueryVideoTool
from .toolkit import SoraToolkit

__all__ = [
    "CreateVideoTool",
    "QueryVideoTool",
    "SoraToolError",
    "SoraToolkit",
    "content_blocks",
    "video_approval",
]
