"""LangChain tools that create and query videos at any Sora-format gateway, and never pay twice.

Importing this package opens nothing and loads nothing heavy: each public name brings its module on first use.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client.async_sora import AsyncSora
    from .client.sora import Sora
    from .errors import (
        AuthenticationError,
        BusyError,
        ConfigurationError,
        DownloadError,
        EndpointUnavailableError,
        InvalidRequestError,
        LostReplyError,
        NotSentError,
        QuotaError,
        SoraError,
        SubmissionUnknownError,
        TaskFailedError,
        TaskNotFoundError,
        UnreadableReplyError,
        WaitTimeoutError,
        is_retryable,
    )
    from .flow.probe import FormatProbe, GatewayProbe
    from .ledger.sqlite import MemoryLedger, SQLiteLedger
    from .ledger.submissions import Ledger, Submission
    from .limits import VideoLimits
    from .prices import Price
    from .retry import Retry
    from .sandbox import Sandbox
    from .schemas import (
        Action,
        Failure,
        Generation,
        InpaintItem,
        SDEdit,
        TaskPage,
        VideoRequest,
        VideoTask,
    )
    from .tools import (
        CreateVideoTool,
        QueryVideoTool,
        SoraToolError,
        SoraToolkit,
        content_blocks,
        video_approval,
    )

__version__ = "0.1.0"

_HOMES = {
    "client.async_sora": ("AsyncSora",),
    "client.sora": ("Sora",),
    "errors": (
        "AuthenticationError",
        "BusyError",
        "ConfigurationError",
        "DownloadError",
        "EndpointUnavailableError",
        "InvalidRequestError",
        "LostReplyError",
        "NotSentError",
        "QuotaError",
        "SoraError",
        "SubmissionUnknownError",
        "TaskFailedError",
        "TaskNotFoundError",
        "UnreadableReplyError",
        "WaitTimeoutError",
        "is_retryable",
    ),
    "flow.probe": ("FormatProbe", "GatewayProbe"),
    "ledger.sqlite": ("MemoryLedger", "SQLiteLedger"),
    "ledger.submissions": ("Ledger", "Submission"),
    "limits": ("VideoLimits",),
    "prices": ("Price",),
    "retry": ("Retry",),
    "sandbox": ("Sandbox",),
    "schemas": (
        "Action",
        "Failure",
        "Generation",
        "InpaintItem",
        "SDEdit",
        "TaskPage",
        "VideoRequest",
        "VideoTask",
    ),
    "tools": (
        "CreateVideoTool",
        "QueryVideoTool",
        "SoraToolError",
        "SoraToolkit",
        "content_blocks",
        "video_approval",
    ),
}

__all__ = [
    "Action",
    "AsyncSora",
    "AuthenticationError",
    "BusyError",
    "ConfigurationError",
    "CreateVideoTool",
    "DownloadError",
    "EndpointUnavailableError",
    "Failure",
    "FormatProbe",
    "GatewayProbe",
    "Generation",
    "InpaintItem",
    "InvalidRequestError",
    "Ledger",
    "LostReplyError",
    "MemoryLedger",
    "NotSentError",
    "Price",
    "QueryVideoTool",
    "QuotaError",
    "Retry",
    "SDEdit",
    "SQLiteLedger",
    "Sandbox",
    "Sora",
    "SoraError",
    "SoraToolError",
    "SoraToolkit",
    "Submission",
    "SubmissionUnknownError",
    "TaskFailedError",
    "TaskNotFoundError",
    "TaskPage",
    "UnreadableReplyError",
    "VideoLimits",
    "VideoRequest",
    "VideoTask",
    "WaitTimeoutError",
    "content_blocks",
    "is_retryable",
    "video_approval",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
