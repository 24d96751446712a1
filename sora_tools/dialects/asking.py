"""Asking in a format that has fewer words than a request.

Rule: nothing that was asked for is left out in silence. What a format has no member for is refused before anything is
sent; what it only has near values for is made as near as it can be, and a sentence says so. Whoever uses a format
directly can send members of its own through ``extra``, which count as given and are not judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from ..errors import ConfigurationError, InvalidRequestError
from ..schemas import InpaintItem, VideoRequest, shortened


def named(task_id: str) -> str:
    """The task id.

    Raises:
        InvalidRequestError: Nothing can have this id; in a path it would name another route.
    """
    if not task_id.strip(". "):
        raise InvalidRequestError(f"task_id={task_id!r} was given; give the id that the create returned.")
    return task_id


def segment(task_id: str) -> str:
    """A task id as one segment of a path, percent-encoded.

    Raises:
        InvalidRequestError: As of :func:`named`.
    """
    return quote(named(task_id), safe="")


def model(request: VideoRequest, dialect: str) -> str:
    """The request's model, for a format in which every create names one.

    Raises:
        ConfigurationError: It has none.
    """
    if request.model is None or not request.model.strip():
        raise ConfigurationError(
            f"model: none was given; a create in the {dialect} format names one.",
            hint="Set SORA_MODEL, or model=, to a model that the gateway serves. Nothing was sent.",
        )
    return request.model


def prompt_and_images(request: VideoRequest, dialect: str) -> tuple[str, list[str]]:
    """A request as its prompt and the addresses of its images, for a format that has no more to say what is in a video.

    Raises:
        InvalidRequestError: The request says more than that, so that another video would be made than was meant.
    """
    found = [_image(index, item, dialect) for index, item in enumerate(request.inpaint_items)]
    addresses = [url for url in found if url]
    if request.operation not in ("simple_compose", "remix"):
        raise _unsaid(
            "operation",
            request.operation,
            dialect,
            'has "simple_compose", and "remix" with an image',
            "Use one of them",
        )
    if request.operation == "remix" and not addresses:
        raise _unsaid(
            "operation", "remix", dialect, "remixes images, and there is none", "Give the url of one in inpaint_items"
        )
    if request.actions:
        raise _unsaid("actions", f"{len(request.actions)}", dialect, "has none", "Tell what happens in the prompt")
    if request.sdedit is not None:
        raise _unsaid("sdedit", f"amount {request.sdedit.amount:g}", dialect, "has none", "Leave it out")
    if request.n_variants != 1:
        raise _unsaid("n_variants", f"{request.n_variants}", dialect, "makes 1", "Create each variant by itself")
    return request.prompt, addresses


def _image(index: int, item: InpaintItem, dialect: str) -> str:
    for field, usual in InpaintItem().model_dump(exclude={"type", "url"}).items():
        if (given := getattr(item, field)) != usual:
            raise _unsaid(
                f"inpaint_items.{index}.{field}",
                shortened(repr(given), 80),
                dialect,
                "takes an image by its url alone",
                "Give its url and leave this out",
            )
    return item.url


def _unsaid(field: str, given: str, dialect: str, allowed: str, instead: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{field}: {given} was given; the {dialect} format {allowed}.", hint=f"{instead}. Nothing was sent."
    )


def least_of(allowed: Sequence[int], asked: float) -> int:
    """The smallest allowed value that holds what was asked for; the largest where none does."""
    return min((value for value in allowed if value >= asked), default=max(allowed))


def adjustment(field: str, made: str, asked: str, allowed: str) -> str:
    """The sentence that says what the nearest allowed value has changed."""
    return f"{field}: {made} is made where {asked} was asked for; this format has {allowed}."
