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
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from .tasks import Task

WORKERS = max(1, min(4, (os.cpu_count() or 2) // 2))


class Studio:
    """Makes each generation's video and thumbnail at most once, on request, as files of one folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._jobs: dict[str, Future[Path]] = {}
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="sora-sandbox-studio")
        self._workers = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def video(self, task: Task, variant: int) -> Future[Path]:
        """The MP4 of one variant, being made if it is not there yet."""
        order = task.order
        settings = {"n_frames": order.n_frames, "captions": order.actions, "opening": task.opening}
        return self._once("render_video", f"{task.generation_ids[variant]}.mp4", task, variant, settings)

    def thumbnail(self, task: Task, variant: int) -> Future[Path]:
        """The PNG of one variant, being made if it is not there yet."""
        return self._once("render_thumbnail", f"{task.generation_ids[variant]}.png", task, variant, {})

    def close(self) -> None:
        """Drop what waits, stop what runs."""
        with self._lock:
            self._closed = True
        for process in self._processes:
            process.kill()
        self._threads.shutdown()
        for process in self._processes:
            _reap(process)

    def _once(self, function: str, name: str, task: Task, variant: int, settings: dict[str, Any]) -> Future[Path]:
        order = task.order
        prompt = order.prompt or " / ".join(description for _, description in order.actions)
        frame = {"prompt": prompt, "width": order.width, "height": order.height, "variant": variant}
        with self._lock:
            if name not in self._jobs:
                path = self._directory / name
                self._jobs[name] = self._threads.submit(self._make, function, path, frame | settings)
            return self._jobs[name]

    def _make(self, function: str, path: Path, settings: dict[str, Any]) -> Path:
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
