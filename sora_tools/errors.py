"""What can go wrong, told apart by what the caller can do about it.

    SoraError
    ├── ConfigurationError        configuration         a setting is missing or wrong: nothing was sent
    ├── InvalidRequestError       invalid_request       the request itself is refused: change it
    ├── AuthenticationError       authentication        the key is missing, wrong, expired or not allowed here
    ├── QuotaError                quota                 no money left: only its owner can help
    ├── EndpointUnavailableError  endpoint_unavailable  the gateway does not serve this yet, or any more
    ├── BusyError                 busy                  the gateway said: later
    ├── NotSentError              not_sent              the request never left this machine
    ├── LostReplyError            lost_reply            it left, and no usable answer came back
    ├── SubmissionUnknownError    submission_unknown    a paid create whose fate is unknown: never send it again
    ├── TaskNotFoundError         task_not_found        the gateway knows no such task
    ├── TaskFailedError           task_failed           the task ended without a video
    ├── WaitTimeoutError          wait_timeout          the task is still rendering: ask again later
    ├── UnreadableReplyError      unreadable_reply      an answer that is not in the gateway's format
    └── DownloadError             download_failed       the video exists and could not be saved

Two facts rule every retry, and neither is enough alone. ``retryable``: may the same call succeed later? ``charged``:
what is known of the money? A create is sent again by itself only when it is retryable and ``charged`` is ``"no"``, or
when a web page answered it and the list shows no task that may have come of it; and where somebody says so
(``resend``, ``idempotency``). Whoever repeats calls from outside asks `is_retryable`, which weighs both.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, AnyStr, ClassVar, Final, Literal, Self

Charged = Literal["no", "unknown", "yes"]


class SoraError(Exception):
    """Anything that went wrong between the caller and a finished video.

    Args:
        message: What happened, in one sentence.
        hint: What to do next, in one sentence.
        retryable: Whether the same call may succeed later, whatever it costs. Not whether it is safe: of a create
            whose fate is unknown it may be True, while :func:`is_retryable` says no. Each class has its own default.
        charged: ``"no"``: nothing was accepted. ``"unknown"``: something may have been. ``"yes"``: the task was
            accepted (the gateway may still refund it). Each class has its own default.
        retry_after: Seconds after which the gateway asked to be tried again.
        most_sends: How often the same call may be sent in all, where that is less than the retry policy's attempts.
        http_status: Status of the answer this error was read from.
        request_id: The gateway's name for the request, to quote in a support ticket.
        task_id: The task in question.
        key: The ledger key of the submission in question.
        task: The :class:`~sora_tools.VideoTask` in question as last seen, where there is one.
    """

    code: ClassVar[str] = "error"
    retryable: bool = False
    charged: Charged = "no"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retryable: bool | None = None,
        charged: Charged | None = None,
        retry_after: float | None = None,
        most_sends: int | None = None,
        http_status: int | None = None,
        request_id: str | None = None,
        task_id: str | None = None,
        key: str | None = None,
        task: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if retryable is not None:
            self.retryable = retryable
        if charged is not None:
            self.charged = charged
        self.retry_after = retry_after
        self.most_sends = most_sends
        self.http_status = http_status
        self.request_id = request_id
        self.task_id = task_id
        self.key = key
        self.task = task

    def __str__(self) -> str:
        stop = "" if self.message.endswith((".", "!", "?", "。")) else "."
        return f"{self.message}{stop} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.message), self.__dict__

    def describe(self) -> dict[str, Any]:
        """The error as plain JSON: ``code, message, hint, retryable, charged`` always, the rest where known."""
        known = ("retry_after", "http_status", "request_id", "task_id", "key")
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "charged": self.charged,
            **{name: value for name in known if (value := getattr(self, name)) is not None},
        }

    def about(self, *, task_id: str | None = None, key: str | None = None, charged: Charged | None = None) -> Self:
        """The same error, naming what it is about where it did not yet."""
        self.task_id = self.task_id or task_id
        self.key = self.key or key
        if charged is not None:
            self.charged = charged
        return self

    def without(self, secret: str) -> Self:
        """The same error with a secret that the gateway quoted taken out of its words."""
        self.message, self.hint = masked(self.message, secret), masked(self.hint, secret)
        self.args = (self.message,)
        self.request_id = self.request_id and masked(self.request_id, secret)
        self.task_id = self.task_id and masked(self.task_id, secret)
        return self


_NAMED: Final = {"&": "|amp", "<": "|lt", ">": "|gt", '"': "|quot", "'": "|apos"}
"""The characters that HTML must escape, and what it calls them."""


def masked(text: AnyStr, secret: str) -> AnyStr:
    """A text without a secret, in whatever case it stands there, and escaped as in JSON, an address or HTML.

    JSON stays JSON, and the cost grows with the text's length and nothing else.
    """
    if not secret.strip("\\"):
        return text
    in_text, in_bytes = _spellings(secret)
    if isinstance(text, str):
        return in_text.sub("***", text)
    return in_bytes.sub(b"***", text)


@lru_cache(maxsize=64)
def _spellings(secret: str) -> tuple[re.Pattern[str], re.Pattern[bytes]]:
    plain = secret.lstrip("\\")
    pattern = _spelt(plain[0], r"(?<!\\)\\++") + "".join(_spelt(character, r"\\++") for character in plain[1:])
    flags = re.IGNORECASE | re.ASCII
    return re.compile(pattern, flags), re.compile(pattern.encode(), flags)


def _spelt(character: str, escape: str) -> str:
    """Every spelling of a character. Hardly a text fits two of them, or looking for a long secret would never end.

    Args:
        character: The character as it is.
        escape: The backslashes before it, all of which belong to it.
    """
    plain, code = re.escape(character), f"{ord(character):02x}"
    entity = f"&(?:#0*{ord(character)}|#x0*{code}{_NAMED.get(character, '')});"
    match character:
        case "\\":
            return r"(?:\\|u005c|%(?:25)*5c|&#0*92;|&#x0*5c;)*"
        case "%":
            return rf"(?:%(?:25)*|{escape}u00{code}|{entity})"
    return rf"(?:{entity}|{plain}|{escape}(?:{plain}|u00{code})|%(?:25)*{code})"


def is_retryable(error: BaseException) -> bool:
    """Whether making the very same call again is safe, and may help.

    For whoever repeats calls from outside: ``ToolRetryMiddleware(retry_on=is_retryable)``, or tenacity's
    ``retry_if_exception(is_retryable)``. The clients themselves have tried again already, as far as that helps.

    Args:
        error: What the call raised: an error of ours, or a :class:`~sora_tools.SoraToolError` around one.

    Returns:
        False for what is not ours, and for a create whose fate is unknown, ``retryable`` or not: that is looked for, by
        its key.
    """
    told = getattr(error, "error", error)
    if not isinstance(told, SoraError) or not told.retryable:
        return False
    is_of_a_look = told.task_id is not None and told.key is None  # and says of the task that it may be charged
    return told.charged != "unknown" or is_of_a_look


def _rebuilt(kind: type[SoraError], message: str) -> SoraError:
    return kind(message)


class ConfigurationError(SoraError):
    """A setting is missing or wrong. Nothing was sent."""

    code = "configuration"


class InvalidRequestError(SoraError):
    """The request breaks a rule, here or at the gateway. The same request will be refused again."""

    code = "invalid_request"


class AuthenticationError(SoraError):
    """The gateway does not accept the key, or not for this."""

    code = "authentication"


class QuotaError(SoraError):
    """The account has nothing left to spend."""

    code = "quota"


class EndpointUnavailableError(SoraError):
    """The gateway does not serve this route or model: not yet, not any more, or not at this address."""

    code = "endpoint_unavailable"
    retryable = True


class BusyError(SoraError):
    """The gateway refused before doing anything, and may accept later; or another attempt with the key is under way."""

    code = "busy"
    retryable = True


class NotSentError(SoraError):
    """The request never left this machine, so nothing can have been accepted."""

    code = "not_sent"
    retryable = True


class LostReplyError(SoraError):
    """The request left and no usable answer came back. A create may have been accepted all the same."""

    code = "lost_reply"
    retryable = True
    charged: Charged = "unknown"


class SubmissionUnknownError(SoraError):
    """A paid create was sent and its fate is unknown. Sending it again could pay twice."""

    code = "submission_unknown"
    charged: Charged = "unknown"


class TaskNotFoundError(SoraError):
    """The gateway shows no task with this id."""

    code = "task_not_found"
    charged: Charged = "unknown"


class TaskFailedError(SoraError):
    """The task was accepted and ended without a usable video. Carries the ``task``."""

    code = "task_failed"
    charged: Charged = "yes"


class WaitTimeoutError(SoraError):
    """The task had not ended by the deadline. It goes on rendering at the gateway.

    Carries the ``task`` as last seen, or None when no look was answered.
    """

    code = "wait_timeout"
    retryable = True
    charged: Charged = "yes"


class UnreadableReplyError(SoraError):
    """The gateway answered with something that is not in its format."""

    code = "unreadable_reply"
    retryable = True
    charged: Charged = "unknown"


class DownloadError(SoraError):
    """The video exists at the gateway and could not be saved here. Never a reason to create it again."""

    code = "download_failed"
    retryable = True
    charged: Charged = "yes"
