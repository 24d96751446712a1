"""Stand-ins for two inference servers that are too heavy to run here, with the manners of their own.

SGLang Diffusion 0.5.23: JSON or a form, lengths as whole numbers, an error without a code, a deletion that answers with
the video, a content route that answers 404 while the video is made, and 400 with the address in it where it is kept in
a bucket. vLLM-Omni 0.30.0: a form and nothing else, a failed job as an HTTP error with the job as its body, 409 for a
deletion that has to wait. Both are FastAPI programs, and say what they refuse in ``detail``.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from by_hand import FILM
from raw_gateway import Connection, RawGateway


class Engine(RawGateway):
    """What both have: jobs in memory that are done after so many looks, and a content route.

    Args:
        looks: Looks at a job until it has ended.
        ending: How jobs end: ``completed``, or ``failed``.
    """

    prefix = "video_"

    def __init__(self, looks: int = 2, ending: str = "completed", **manners: Any) -> None:
        super().__init__(self._answer)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.fields: list[dict[str, Any]] = []
        self.looks, self.ending, self.manners = looks, ending, manners
        self._numbers = itertools.count(1)
        self._seen: dict[str, int] = {}

    @property
    def creates(self) -> int:
        return len(self.jobs)

    def _answer(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        headers = self.requests[-1][2]
        path, _, query = path.partition("?")
        if headers.get("authorization") != "Bearer sk-test-0123456789":
            return connection.reply({"detail": "Unauthorized"}, 401)
        if (method, path) == ("POST", "/v1/videos"):
            return self.create(connection, headers.get("content-type", ""), body)
        if (method, path) == ("GET", "/v1/videos"):
            return connection.reply({"object": "list", "data": [*self.jobs.values()][::-1], "has_more": False})
        found = re.fullmatch("/v1/videos/([^/]+)(/content)?", path)
        job = self.jobs.get(found[1]) if found else None
        if found is None or job is None:
            return connection.reply({"detail": "Video not found" if found else "Not Found"}, 404)
        if found[2]:
            return self.content(connection, job, query)
        if method == "DELETE":
            return self.delete(connection, job)
        self._progress(job)
        return self.look(connection, job)

    def create(self, connection: Connection, content_type: str, body: bytes) -> None:
        fields = json.loads(body) if content_type == "application/json" else formed(content_type, body)
        self.fields.append(fields)
        number = next(self._numbers)
        job = {
            "id": f"{self.prefix}{number:032d}",
            "object": "video",
            "model": fields.get("model", "wan"),
            "status": "queued",
            "progress": 0,
            "created_at": int(time.time()),
            "size": fields.get("size", ""),
            "seconds": str(fields.get("seconds", "")),
            "prompt": fields["prompt"],
        }
        self.jobs[job["id"]] = job
        connection.reply(job)

    def _progress(self, job: dict[str, Any]) -> None:
        seen = self._seen[job["id"]] = self._seen.get(job["id"], 0) + 1
        done = seen >= self.looks
        job["status"] = self.ending if done else "in_progress"
        job["progress"] = 100 if done and self.ending == "completed" else min(99, seen * 100 // self.looks)

    def look(self, connection: Connection, job: dict[str, Any]) -> None:
        connection.reply(job)

    def content(self, connection: Connection, job: dict[str, Any], query: str) -> None:
        connection.reply(FILM, content_type="video/mp4")

    def delete(self, connection: Connection, job: dict[str, Any]) -> None:
        del self.jobs[job["id"]]
        connection.reply({"id": job["id"], "object": "video.deleted", "deleted": True})


class SGLang(Engine):
    """Manners: ``bucket``, where finished videos are; ``needs_file``, as older builds ask of every form."""

    def create(self, connection: Connection, content_type: str, body: bytes) -> None:
        if content_type != "application/json" and self.manners.get("needs_file") and b"filename=" not in body:
            missing = {"type": "missing", "loc": ["body", "input_reference"], "msg": "Field required"}
            return connection.reply({"detail": [missing]}, 422)
        if content_type == "application/json" and not str(json.loads(body).get("seconds", 4)).isdigit():
            wrong = {"type": "int_parsing", "loc": ["body", "seconds"], "msg": "Input should be a valid integer"}
            return connection.reply({"detail": [wrong]}, 422)
        return super().create(connection, content_type, body)

    def look(self, connection: Connection, job: dict[str, Any]) -> None:
        ended = job["status"] == "completed"
        more = {"file_path": f"outputs/{job['id']}.mp4", "inference_time_s": 12.5, "url": None} if ended else {}
        error = {"error": {"message": "CUDA out of memory"}} if job["status"] == "failed" else {"error": None}
        connection.reply({**job, **more, **error, "seconds": int(job["seconds"] or 4)})

    def content(self, connection: Connection, job: dict[str, Any], query: str) -> None:
        if job["status"] != "completed":
            return connection.reply({"detail": "Generation is still in-progress"}, 404, content_type="application/json")
        if bucket := self.manners.get("bucket"):
            said = f"Video has been uploaded to cloud storage. Please use the cloud URL: {bucket}/{job['id']}.mp4"
            return connection.reply({"detail": said}, 400, content_type="application/json")
        return super().content(connection, job, query)

    def delete(self, connection: Connection, job: dict[str, Any]) -> None:
        del self.jobs[job["id"]]
        connection.reply({**job, "status": "deleted"})


class VLLMOmni(Engine):
    """Manners: ``failure``, the HTTP status that failed jobs are answered with; ``cancelling``, deletions that wait."""

    prefix = "video_gen_"

    def create(self, connection: Connection, content_type: str, body: bytes) -> None:
        if not content_type.startswith("multipart/form-data"):
            missing = {"type": "missing", "loc": ["body", "prompt"], "msg": "Field required", "input": None}
            return connection.reply({"detail": [missing]}, 422)
        return super().create(connection, content_type, body)

    def look(self, connection: Connection, job: dict[str, Any]) -> None:
        if job["status"] == "failed":
            error = {"code": "generation_failed", "message": "The engine gave up."}
            return connection.reply({**job, "error": error}, self.manners.get("failure", 500))
        return connection.reply({**job, "error": None})

    def content(self, connection: Connection, job: dict[str, Any], query: str) -> None:
        if job["status"] == "failed":
            return connection.reply({"detail": "Video generation failed"}, 422, content_type="application/json")
        if job["status"] != "completed":
            return connection.reply({"detail": "Video is not ready"}, 404, content_type="application/json")
        return super().content(connection, job, query)

    def delete(self, connection: Connection, job: dict[str, Any]) -> None:
        if self.manners.pop("cancelling", 0):
            return connection.reply({"detail": "Cancellation in progress"}, 409)
        return super().delete(connection, job)


def formed(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a form; files as ``(name, media type, bytes)``."""
    message = BytesParser(policy=HTTP).parsebytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        filename = part.get_filename()
        fields[name] = (filename, part.get_content_type(), content) if filename else content.decode()
    return fields
