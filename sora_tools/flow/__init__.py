"""The conversations with a gateway, each written once, as generators that do no I/O."""

from .delete import delete
from .download import download
from .exchange import Gateway
from .generate import generate, resume
from .look import Board, checked_timeout, listed, query, successful, sweep, wait
from .probe import FormatProbe, GatewayProbe, decided, probe
from .submit import Repeat, create, requested, with_model
from .wishes import (
    ALONE,
    NO_NEWS,
    Aside,
    Do,
    Finish,
    Flow,
    Look,
    More,
    Open,
    Ready,
    Said,
    Send,
    Silence,
    Sleep,
    Stream,
    Tell,
    Wish,
)

__all__ = [
    "ALONE",
    "NO_NEWS",
    "Aside",
    "Board",
    "Do",
    "Finish",
    "Flow",
    "FormatProbe",
    "Gateway",
    "GatewayProbe",
    "Look",
    "More",
    "Open",
    "Ready",
    "Repeat",
    "Said",
    "Send",
    "Silence",
    "Sleep",
    "Stream",
    "Tell",
    "Wish",
    "checked_timeout",
    "create",
    "decided",
    "delete",
    "download",
    "generate",
    "listed",
    "probe",
    "query",
    "requested",
    "resume",
    "successful",
    "sweep",
    "wait",
    "with_model",
]
