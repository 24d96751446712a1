"""Bodies that may be JSON or a multipart form: both become the same fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from typing import Any

from .messages import Call
from .orders import OrderError, json_object


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that came in a form."""

    filename: str
    data: bytes


def is_form(call: Call) -> bool:
    """Whether the body is a multipart form."""
    return call.headers.get("content-type", "").lower().startswith("multipart/form-data")


def fields(call: Call) -> Mapping[str, Any]:
    """The fields of a body: texts and files of a form, values of a JSON object.

    A form's `name[member]` is a member of an object, as OpenAI's SDK sends objects.

    Raises:
        OrderError: When it is neither.
    """
    return _form(call) if is_form(call) else json_object(call.body)


def numbered(values: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The fields with these turned into numbers where they are a number's text, as they are in a form."""
    return {**values, **{name: _number(values[name]) for name in names if isinstance(values.get(name), str)}}


def readable(call: Call) -> Any:
    """A body for the request log: JSON as parsed, a form's files by name and length, None where it is neither."""
    try:
        if not is_form(call):
            return json.loads(call.body)
        form = _form(call)
    except (ValueError, RecursionError, OrderError):
        return None
    return {
        name: {"filename": value.filename, "bytes": len(value.data)} if isinstance(value, File) else value
        for name, value in form.items()
    }


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _form(call: Call) -> Mapping[str, Any]:
    boundary = _headers(f"content-type: {call.headers['content-type']}".encode("latin-1", "replace")).get_param(
        "boundary"
    )
    if not isinstance(boundary, str) or not boundary:
        raise OrderError("body", "the form has no boundary", "invalid_multipart_form")
    parts = (b"\r\n" + call.body).split(b"\r\n--" + boundary.encode())
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise OrderError("body", "the form does not end", "invalid_multipart_form")
    form: dict[str, Any] = {}
    for part in parts[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = _headers(head)
        name, filename = (headers.get_param(key, header="content-disposition") for key in ("name", "filename"))
        if isinstance(name, str):
            _put(
                form,
                name,
                data.decode(errors="replace") if filename is None else File(filename=str(filename), data=data),
            )
    return form


def _put(form: dict[str, Any], name: str, value: str | File) -> None:
    outer, bracket, inner = name.partition("[")
    if bracket:
        members = form.setdefault(outer, {})
        if isinstance(members, dict):
            members[inner.rstrip("]")] = value
    else:
        form[name] = value


def _headers(head: bytes) -> Message:
    return message_from_bytes(head + b"\r\n\r\n")
