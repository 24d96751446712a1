"""What the gateway remembers of its tasks: which there are, who may see them, and what became of their videos.

Not safe for threads by itself; the world holds its lock around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import islice
from typing import Any

from .tasks import QUEUED, Generation, Task, Video, progress


class Memory:
    """The accepted tasks of a gateway."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._accepted: list[Task] = []
        self._generations: dict[str, Generation] = {}
        self._by_key: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._shown: set[str] = set()
        self._rendering: set[str] = set()
        self._spoilt: set[str] = set()
        self._sizes: dict[str, int | None] = {}

    # ------------------------------------------------------------ tasks

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Accepted tasks, oldest first; those deleted since are among them."""
        return tuple(self._accepted)

    def __len__(self) -> int:
        return len(self._accepted)

    def __getitem__(self, task_id: str) -> Task:
        return self._tasks[task_id]

    def add(self, task: Task, key: str | None) -> None:
        """Remember an accepted task, and the idempotency key it came with."""
        self._tasks[task.task_id] = task
        self._accepted.append(task)
        for variant, generation_id in enumerate(task.generation_ids):
            self._generations[generation_id] = Generation(task, variant)
        if key:
            self._by_key[key] = task.task_id

    def with_key(self, key: str | None) -> Task | None:
        """The task that a create with this idempotency key was given."""
        return self._tasks[self._by_key[key]] if key in self._by_key else None

    def find(self, spelling: str, now: float) -> Task | None:
        """The visible task of an id as any format spells it: `task_...`, `MODEL:task_...` or `gen_...`."""
        task_id = bare(spelling)
        task = self._tasks.get(task_id) or self._tasks.get(task_id.replace("gen_", "task_", 1))
        return task if task and self._visible(task, now) else None

    def generation(self, generation_id: str, now: float) -> Generation | None:
        """The generation of an id, if its task is visible."""
        made = self._generations.get(generation_id)
        return made if made and self._visible(made.task, now) else None

    def page(self, now: float, *, past: str | None, limit: int, oldest_first: bool = False) -> tuple[list[Task], bool]:
        """The visible tasks past an id, newest first unless told otherwise, and whether there are more."""
        tasks = self._accepted if oldest_first else reversed(self._accepted)
        edge = bare(past or "")
        found = (
            task
            for task in tasks
            if self._visible(task, now) and (not edge or (task.task_id > edge if oldest_first else task.task_id < edge))
        )
        return list(islice(found, limit)), next(found, None) is not None

    def delete(self, task: Task) -> None:
        """Show a task to nobody any more; what it cost stays charged."""
        self._deleted.add(task.task_id)

    def _visible(self, task: Task, now: float) -> bool:
        if task.task_id in self._deleted:
            return False
        return task.ending != "invisible" or now - task.created_at >= task.ending_options["seconds"]

    # ------------------------------------------------------------ how far they are

    def state(self, task: Task, *, now: float, seconds: float) -> dict[str, Any]:
        """How far a task is that takes so many seconds; see `tasks.progress`."""
        videos = set(task.generation_ids)
        return progress(
            task,
            age=now - task.created_at,
            seconds=seconds,
            ahead=self._ahead(task, now - QUEUED * seconds),
            rendering=not videos.isdisjoint(self._rendering),
            spoilt=not videos.isdisjoint(self._spoilt),
        )

    def _ahead(self, task: Task, since: float) -> int:
        """How many tasks accepted before this one, and after `since`, are in the queue."""
        first = bisect_right(self._accepted, since, key=lambda other: other.created_at)
        return max(0, bisect_left(self._accepted, task.task_id, key=lambda other: other.task_id) - first)

    def show(self, task: Task) -> None:
        """A client was given this task's URLs."""
        self._shown.add(task.task_id)

    def was_shown(self, task: Task) -> bool:
        """Whether a client was given this task's URLs before."""
        return task.task_id in self._shown

    # ------------------------------------------------------------ videos

    def rendering(self, generation_id: str) -> None:
        """A generation's video is being made."""
        self._rendering.add(generation_id)

    def rendered(self, generation_id: str, size: int | None) -> None:
        """A generation's video is there, so many bytes long where that is known."""
        self._rendering.discard(generation_id)
        self._sizes[generation_id] = size

    def spoilt(self, generation_id: str) -> None:
        """A generation's video could not be made."""
        self._rendering.discard(generation_id)
        self._spoilt.add(generation_id)

    def videos(self, task: Task, link: Callable[[str], str]) -> list[Video]:
        """What a task that succeeded has made; `link` gives a file's URL."""
        return [
            Video(
                generation_id=generation_id,
                url=link(f"{generation_id}.mp4"),
                thumbnail_url=link(f"{generation_id}.png"),
                spritesheet_url=link(f"{generation_id}.jpg"),
                seed=(task.seed + variant) % 2**31,
                size=self._sizes.get(generation_id),
            )
            for variant, generation_id in enumerate(task.generation_ids)
        ]


def bare(spelling: str) -> str:
    """An id without the model that some gateways put in front of it."""
    return spelling.rpartition(":")[2]
