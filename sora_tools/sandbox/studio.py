"""Where the sandbox's videos are made: in a process of its own, so that rendering slows no answer and outlives no stop.

A thread would be shorter, but it shares the interpreter lock with the server and cannot be stopped in mid-render.
`multiprocessing` would be shorter too, but its workers import the caller's main module, which runs an unguarded script
twice.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .orders import Source
from .tasks import Generation, Task

WORKERS = max(1, min(4, (os.cpu_count() or 2) // 2))


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What a video is made of beside its prompt, as the worker gets it.

    Args:
        material: An image file's bytes, or the path of a video.
        frame_index: The frame of the new video at which it is placed, where it is placed.
        first: The first frame of a video to use, from 0.
        last: The last one; None for all that come.
    """

    material: bytes | Path
    frame_index: int = 0
    first: int = 0
    last: int | None = None


class Studio:
    """Makes each generation's video and its pictures at most once, on request, as files of one folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._jobs: dict[str, Future[Path]] = {}
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="sora-sandbox-studio")
        self._workers = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def make(self, made: Generation, kind: str = "mp4") -> Future[Path]:
        """The file of a generation, being made if it is not there yet, after all that it is made from.

        Args:
            made: Whose it is.
            kind: `mp4` for the video, `png` for its thumbnail, `jpg` for its spritesheet.
        """
        with self._lock:
            job = self._jobs.get(f"{made.generation_id}.{kind}")
            if job is not None:
                return job
            for source in made.lineage:
                job = self._once("render_video", self._path(source), self._settings(source), source.sources)
            if kind != "mp4":
                function = "render_thumbnail" if kind == "png" else "render_spritesheet"
                job = self._once(function, self._path(made, kind), {"video": self._path(made)}, [made])
            assert job
            return job

    def close(self) -> None:
        """Drop what waits, stop what runs."""
        with self._lock:
            self._closed = True
        for process in self._processes:
            process.kill()
        self._threads.shutdown()
        for process in self._processes:
            _reap(process)

    def _path(self, made: Generation, kind: str = "mp4") -> Path:
        return self._directory / f"{made.generation_id}.{kind}"

    def _settings(self, made: Generation) -> dict[str, Any]:
        """How the video of a generation is rendered."""
        order = made.task.order
        return {
            "prompt": order.prompt or " / ".join(description for _, description in order.actions),
            "width": order.width,
            "height": order.height,
            "n_frames": order.n_frames,
            "variant": made.variant,
            "captions": order.actions,
            "amount": order.amount,
            "base": next(iter(self._footage(made.task, [order.base] if order.base else [])), None),
            "blended": self._footage(made.task, order.blended),
            "placed": self._footage(made.task, order.placed),
        }

    def _footage(self, task: Task, sources: Sequence[Source]) -> list[Footage]:
        return [
            Footage(
                material=self._path(material) if isinstance(material, Generation) else material,
                frame_index=source.frame_index,
                first=source.first,
                last=source.last,
            )
            for source in sources
            if (material := task.materials.get(source)) is not None
        ]

    def _once(self, function: str, path: Path, settings: dict[str, Any], needs: Iterable[Generation]) -> Future[Path]:
        """A file's job, given out if it is not yet; those of what it needs were given out before."""
        if path.name not in self._jobs:
            files = [self._jobs[self._path(need).name] for need in needs]
            self._jobs[path.name] = self._threads.submit(self._make, function, path, settings, files)
        return self._jobs[path.name]

    def _make(self, function: str, path: Path, settings: dict[str, Any], needs: Sequence[Future[Path]]) -> Path:
        for need in needs:
            # Jobs are taken in the order they were given out, so these are done, or being done by another thread: to
            # wait for them can keep this one busy, but never all of them.
            need.result()
        process = self._worker()
        assert process.stdin
        assert process.stdout
        pickle.dump((function, path, settings), process.stdin)
        process.stdin.flush()
        complaint = pickle.load(process.stdout)  # noqa: S301 - our own process wrote it
        if complaint is not None:
            raise RuntimeError(f"{path.name} could not be rendered: {complaint}")
        return path

    def _worker(self) -> subprocess.Popen[bytes]:
        """This thread's process, started on first use and again after it died."""
        process: subprocess.Popen[bytes] | None = getattr(self._workers, "process", None)
        if process is not None and process.poll() is None:
            return process
        with self._lock:
            if self._closed:
                raise RuntimeError("the studio is closed")
            self._workers.process = process = _start()
            self._processes.append(process)
        return process


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the interpreter we run in, and a line of our own
        [sys.executable, "-c", f"from {__name__} import work; work()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        start_new_session=True,  # Ctrl-C is the server's business
    )


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()


def work() -> None:
    """The worker process: render what stdin asks for until it closes, answering None or what went wrong."""
    from . import render  # noqa: PLC0415 - PyAV and Pillow are loaded in this process only

    if hasattr(os, "nice"):
        os.nice(5)
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    load: Callable[[], Any] = partial(pickle.load, sys.stdin.buffer)
    with suppress(EOFError):
        while True:
            function, path, settings = load()
            complaint = None
            try:
                getattr(render, function)(path, **settings)
            except Exception as exc:  # noqa: BLE001 - whatever a render raises is told to the server
                complaint = f"{type(exc).__name__}: {exc}"
            pickle.dump(complaint, answers)
            answers.flush()
