"""Our clients at servers of the videos format that have manners of their own, over real sockets, in both colours."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from by_hand import FILM
from engines import SGLang, VLLMOmni
from raw_gateway import RawGateway

from sora_tools import (
    AsyncSora,
    BusyError,
    DownloadError,
    EndpointUnavailableError,
    InvalidRequestError,
    Retry,
    Sora,
    TaskFailedError,
    TaskNotFoundError,
)
from sora_tools.events import Adjusted

KEY = "sk-test-0123456789"
QUICK = Retry(attempts=4, budget=40.0, first=0.0, longest=0.0)
VIDEO = {"prompt": "fly man", "width": 832, "height": 480, "n_frames": 150}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)

Drive = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest, tmp_path: Path) -> Drive:
    """Call one method of a client of either colour."""

    def given(base_url: str, settings: dict[str, Any]) -> dict[str, Any]:
        ledger = tmp_path / "ledger.sqlite"
        return {
            "base_url": base_url,
            "api_key": KEY,
            "dialect": "videos",
            "retry": QUICK,
            "ledger": ledger,
            "model": "wan-2.2",
            **settings,
        }

    def sync(base_url: str, method: str, *arguments: Any, settings: dict[str, Any] | None = None, **named: Any) -> Any:
        with Sora(**given(base_url, settings or {})) as sora:
            return getattr(sora, method)(*arguments, **named)

    def later(base_url: str, method: str, *arguments: Any, settings: dict[str, Any] | None = None, **named: Any) -> Any:
        async def main() -> Any:
            async with AsyncSora(**given(base_url, settings or {})) as sora:
                return await getattr(sora, method)(*arguments, **named)

        return asyncio.run(main())

    return sync if request.param == "sync" else later


@pytest.mark.parametrize("engine", [SGLang, VLLMOmni])
def test_an_engine_is_taken_from_a_prompt_to_a_file(drive: Drive, tmp_path: Path, engine: Any) -> None:
    with engine() as server:
        task = drive(server.base_url, "generate", VIDEO, directory=tmp_path / "films")
    (generation,) = task.generations
    assert generation.file.read_bytes() == FILM
    assert (server.creates, generation.needs_key) == (1, True)
    (fields,) = server.fields
    assert (fields["prompt"], fields["model"], fields["size"], fields["seconds"]) == (
        "fly man",
        "wan-2.2",
        "832x480",
        "5",
    )


def test_a_form_is_sent_once_to_a_server_that_reads_nothing_else(drive: Drive) -> None:
    with VLLMOmni() as server:
        drive(server.base_url, "create", VIDEO)
    assert (server.creates, server.posts) == (1, 2)


def test_a_refusal_that_is_not_about_the_encoding_is_not_asked_again(drive: Drive) -> None:
    with SGLang() as server, pytest.raises(InvalidRequestError, match="valid integer"):
        drive(server.base_url, "create", VIDEO, extra={"seconds": "5.5"})
    assert (server.creates, server.posts) == (0, 1)


@pytest.mark.parametrize("engine", [SGLang, VLLMOmni])
def test_an_image_goes_as_the_engine_reads_it(drive: Drive, engine: Any) -> None:
    url = f"data:image/png;base64,{b64encode(PNG).decode()}"
    with engine(needs_file=True) as server:
        drive(server.base_url, "create", VIDEO, inpaint_items=[{"url": url}])
    (fields,) = server.fields
    reference = fields["input_reference"]
    assert reference == ({"image_url": url} if engine is SGLang else ("reference.png", "image/png", PNG))


def test_what_an_engine_takes_beyond_the_format_is_said_in_its_own_terms(drive: Drive) -> None:
    given = {"num_frames": 81, "fps": 16, "seed": 7, "negative_prompt": "text"}
    with VLLMOmni() as server:
        drive(server.base_url, "create", VIDEO, extra=given)
    (fields,) = server.fields
    assert {name: fields[name] for name in given} == {name: str(value) for name, value in given.items()}
    assert "seconds" not in fields


@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_failed_job_is_that_whatever_its_http_status(drive: Drive, status: int) -> None:
    with VLLMOmni(ending="failed", failure=status) as server:
        task_id = drive(server.base_url, "create", VIDEO).task_id
        with pytest.raises(TaskFailedError, match="gave up") as caught:
            drive(server.base_url, "wait", task_id)
    assert (caught.value.charged, caught.value.task.failure.code) == ("yes", "generation_failed")
    assert (server.creates, server.gets) == (1, 2)


def test_an_error_without_a_code_is_read(drive: Drive) -> None:
    with SGLang(ending="failed") as server, pytest.raises(TaskFailedError, match="CUDA out of memory"):
        drive(server.base_url, "generate", VIDEO)


def test_a_video_in_a_bucket_is_fetched_there_without_the_key(drive: Drive, tmp_path: Path) -> None:
    with (
        RawGateway(lambda connection, *_: connection.reply(FILM, content_type="video/mp4")) as bucket,
        SGLang(bucket=bucket.base_url) as server,
    ):
        task = drive(server.base_url, "generate", VIDEO, directory=tmp_path, settings={"private_addresses": True})
    assert task.generations[0].file.read_bytes() == FILM
    ((_, path, headers),) = bucket.requests
    assert path == f"/{task.task_id}.mp4"
    assert "authorization" not in headers


@pytest.mark.parametrize("carried", [b64encode(FILM).decode(), "not base64!"])
def test_a_video_in_the_answer_itself_is_saved_from_there(drive: Drive, tmp_path: Path, carried: str) -> None:
    class Carrying(SGLang):
        def look(self, connection: Any, job: dict[str, Any]) -> None:
            connection.reply({**job, "data": [{"b64_json": carried}]} if job["status"] == "completed" else job)

    with Carrying() as server:
        if carried == "not base64!":
            with pytest.raises(DownloadError, match="cannot be decoded"):
                drive(server.base_url, "generate", VIDEO, directory=tmp_path)
            return
        task = drive(server.base_url, "generate", VIDEO, directory=tmp_path)
    assert task.generations[0].file.read_bytes() == FILM


def test_a_video_whose_file_is_late_is_waited_for(drive: Drive, tmp_path: Path) -> None:
    class Late(SGLang):
        def content(self, connection: Any, job: dict[str, Any], query: str) -> None:
            if self.manners.pop("late", 0):
                return connection.reply({"detail": "Generation is still in-progress"}, 404, content_type="text/plain")
            return super().content(connection, job, query)

    with Late(late=1) as server:
        task = drive(server.base_url, "generate", VIDEO, directory=tmp_path)
    assert task.generations[0].file.read_bytes() == FILM


@pytest.mark.parametrize("engine", [SGLang, VLLMOmni])
def test_a_deleted_task_is_gone_and_no_longer_waited_for(drive: Drive, engine: Any, tmp_path: Path) -> None:
    with engine() as server:
        task_id = drive(server.base_url, "create", VIDEO, key="k").task_id
        drive(server.base_url, "delete", "k")
        assert server.creates == 0
        with pytest.raises(TaskNotFoundError):
            drive(server.base_url, "delete", task_id)


def test_a_deletion_that_has_to_wait_is_asked_again(drive: Drive) -> None:
    with VLLMOmni(cancelling=1) as server:
        task_id = drive(server.base_url, "create", VIDEO).task_id
        drive(server.base_url, "delete", task_id)
    assert server.creates == 0


def test_a_format_that_cannot_delete_says_so(drive: Drive) -> None:
    with SGLang() as server, pytest.raises(EndpointUnavailableError, match="backend format cannot delete"):
        drive(server.base_url, "delete", "task_1", settings={"dialect": "backend"})
    assert server.requests == []


def test_the_nearest_of_what_a_model_has_is_made_and_said(drive: Drive) -> None:
    events: list[Any] = []
    with SGLang() as server:
        drive(server.base_url, "create", VIDEO, model="sora-2", on_event=events.append)
    (fields,) = server.fields
    assert (fields["size"], fields["seconds"]) == ("1280x720", "4")
    assert [event.sentence for event in events if isinstance(event, Adjusted)] == [
        "n_frames: 4 s are made where 5 s were asked for.",
        "width, height: 1280x720 is made where 832x480 was asked for.",
    ]


def test_a_lost_create_is_found_in_the_list_by_what_was_sent(drive: Drive) -> None:
    class Losing(SGLang):
        def create(self, connection: Any, content_type: str, body: bytes) -> None:
            if not self.jobs:
                super().create(_Deaf(), content_type, body)
                return connection.reset()
            return super().create(connection, content_type, body)

    class _Deaf:
        def reply(self, *_: Any, **__: Any) -> None:
            """Nobody hears it."""

    with Losing() as server:
        task = drive(server.base_url, "create", VIDEO, model="sora-2", key="k")
    assert (server.creates, server.posts, [task.task_id]) == (1, 1, [*server.jobs])


def test_a_server_that_says_busy_to_a_deletion_for_ever_is_named(drive: Drive) -> None:
    with VLLMOmni(cancelling=1) as server:
        server.delete = lambda connection, job: connection.reply({"detail": "Cancellation in progress"}, 409)
        task_id = drive(server.base_url, "create", VIDEO).task_id
        with pytest.raises(BusyError, match="Cancellation in progress"):
            drive(server.base_url, "delete", task_id)
