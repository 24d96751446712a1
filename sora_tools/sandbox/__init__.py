"""A Sora-format gateway on this machine, for trying things out without a key and for tests (extra `sandbox`).

It lets in any bearer key, renders real MP4s, takes its time, remembers its tasks, counts what they would have cost, and
goes wrong on request:

    with Sandbox(speed=3) as sandbox:
        client = Sora(base_url=sandbox.base_url, api_key="any")
        sandbox.script("create", "bad_gateway", times=2)     # the next two creates get a 502
        sandbox.script("task", "moderation_output")          # the next accepted task succeeds without a video
        ...
        assert sandbox.creates == 1                          # creates it accepted, whatever the client was told
        assert sandbox.requests[-1].fault is None            # and every request, in order

It speaks five formats over the same tasks, so that what was created through one can be looked up through another:

    backend      POST and GET /sora/backend/video_gen, the web backend's
    videos       /v1/videos, OpenAI's: create, look, list, delete, content, remix
    unified      POST /v1/video/create, GET /v1/video/query?id=
    generations  POST /v1/video/generations, GET /v1/video/generations/{id}
    chat         POST /v1/chat/completions, one answer as long as the video takes

and beside them a relay's `/v1/models` and `/v1/dashboard/billing/{subscription,usage}`. With
`World(chat_model=function)` it serves a chat model too, as relays do: the function is given the body of a completion
whose model makes no videos, and returns the assistant's message.
`Sandbox(world=World(formats=["backend", "chat"]))` serves some of them alone.

A task takes 6 seconds at speed 1: queued for the first sixth, preprocessing up to a quarter, then running.
`Sandbox(render=False)` makes a video when it is first downloaded instead of before the task succeeds.

A video can be made of others, and shows that it is. A remix (a source in `sdedit` or `inpaint_items`, or
`POST /v1/videos/{id}/remix`) lies over its source, which fades from `amount` 1 to 8; a blend passes from the first
source into the second, or from one alone into the prompt's scene; an image item shows at its `frame_index`, and an item
that names a generation likewise. Sources are fitted to cover; the last frame of a shorter one stays. A generation that
is unknown, or has no video, is refused. Thumbnail and spritesheet are pictures of the video itself.

What goes wrong is data: `faults.FAULTS` lists what can befall `create`, `list`, `look` (by-id), `download`, `delete`
and `models` requests of any format with the options of each, `faults.FORMAT_FAULTS` what is one format's own,
`faults.ENDINGS` how a `task` can end. Every fault takes `times` (None: until `clear()`), `headers` to add to the
answer, and for creates and deletes `accept`: whether it was done all the same. By default it was where the reply is
lost or says nothing, and was not where the gateway refuses or breaks down.

Other processes steer a sandbox over HTTP, without a key:

    POST /_sandbox/script   {"route": "create", "fault": "rate_limit", "times": 2, "options": {"retry_after": 1}}
    GET  /_sandbox/state    accepted, charged, tasks, requests, pending
    POST /_sandbox/reset    forgets everything but the settings

`World` is the gateway without the socket: `receive(method, path, ...)` returns an `Answer`, time is a callable, and its
arguments are the ways gateways differ (`by_id`, `list_key`, `generations_answer`, `chat_answer`, ...).
`Sandbox(world=...)` serves one. `serve()` runs a sandbox in the foreground.
"""

from __future__ import annotations

from importlib.util import find_spec

if missing := [name for name in ("av", "PIL", "starlette", "uvicorn") if find_spec(name) is None]:
    raise ImportError(f"sora_tools.sandbox needs {', '.join(missing)}: pip install 'sora-tools[sandbox]'")

from .log import Received
from .messages import Answer
from .pictures import is_loopback
from .server import Sandbox, serve
from .tasks import Task
from .world import World

__all__ = ["Answer", "Received", "Sandbox", "Task", "World", "is_loopback", "serve"]
