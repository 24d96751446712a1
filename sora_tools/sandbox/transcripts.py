"""What a chat's answer says while a video is made: the ways relays were seen to tell it.

`transcript` writes block quotes, with links that are no video before the one that is; `reasoning` keeps the progress in
`reasoning_content` and ends with HTML and STOP; `output` adds the video as a member of its own; `emoji` ends with a
bare URL; `link` is one sentence, `url` the URL alone and `json` the URL as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .manners import ChatAnswer, Manners
from .streams import DONE, Steps, event
from .tasks import View

News = Iterator[View | float]
Deltas = Iterator[dict[str, Any] | float]
Telling = Callable[[News], Deltas]
LOOKS = 12
"""How often a stream looks at its task while a video is made."""
FENCE = "```"
STAGES = {"queued": "queued", "preprocessing": "processing", "running": "processing"}


def streamed(view: View, look: Callable[[], View], manners: Manners) -> Steps:
    """The events of a stream, as they come to be.

    Args:
        view: The task when it was accepted.
        look: The task as it is now.
        manners: Which way to tell it, and how a failure.
    """
    for number, delta in enumerate(TELLINGS[manners.chat_answer](_news(look))):
        if isinstance(delta, float):
            yield delta
        elif "finish_reason" in delta and manners.chat_failure == "error" and (reason := look().failure):
            message = f"Generation failed: {reason}"
            yield event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
        else:
            yield event(_chunk(view, delta, number, manners))
    yield DONE


def collected(steps: Steps) -> Steps:
    """The same as one whole completion, sent when all is said."""
    content, last = "", {}
    for step in steps:
        if isinstance(step, float):
            yield step
        elif step != DONE:
            last = json.loads(step.removeprefix(b"data: "))
            content += (last.get("choices") or [{"delta": {}}])[0]["delta"].get("content") or ""
    if "error" not in last:
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        last = {**last, "object": "chat.completion", "choices": [choice]}
    yield json.dumps(last, ensure_ascii=False).encode()


def _news(look: Callable[[], View]) -> News:
    """The task whenever it has come further, and between that the seconds to wait."""
    told = None
    while True:
        view = look()
        if told != (told := (view.status, view.percent)):
            yield view
        if view.ended:
            return
        yield max(0.01, min(1.0, view.seconds / LOOKS))


def _chunk(view: View, delta: Mapping[str, Any], number: int, manners: Manners) -> dict[str, Any]:
    own_name = manners.chat_answer not in {"reasoning", "output"}
    finish = delta.get("finish_reason")
    return {
        "id": f"chatcmpl-{view.task.seed}-{number}",
        "object": "chat.completion" if manners.chat_answer == "link" else "chat.completion.chunk",
        "created": int(view.task.created_at),
        "model": view.order.model if own_name else "sora",
        "choices": [
            {
                "index": 0,
                "delta": {name: value for name, value in delta.items() if name != "finish_reason"},
                "finish_reason": finish,
            }
        ],
    }


def _url(view: View) -> str | None:
    return view.videos[0].url if view.videos else None


def _apology(view: View) -> str:
    return f"❌ 生成失败: {view.failure}"


def _ended(news: News) -> Iterator[View | float]:
    """The waits, and the task once it has ended."""
    for view in news:
        if isinstance(view, float) or view.ended:
            yield view


# ---------------------------------------------------------------- the ways to tell it


def _transcript(news: News) -> Deltas:
    headed = False
    for view in news:
        if isinstance(view, float):
            yield view
            continue
        if not headed:
            headed = True
            yield {"role": "assistant", "content": _heading(view)}
        if view.status == "queued":
            yield {"content": "> 排队中......\n"}
        elif not view.ended:
            yield {"content": f">🏃 进度 {view.percent}..\n" if view.percent else "> 生成中.\n"}
        elif view.failure is not None:
            yield {"content": f"\n> 生成失败 ❌\n> 失败原因：{view.failure}\n", "finish_reason": "stop"}
        else:
            yield {"content": "> 生成完成 ✅\n"}
            yield {"content": _links(view), "finish_reason": "stop"}


def _heading(view: View) -> str:
    """The echo of the create, the id, and two links to pages about it."""
    order = view.order
    orientation = "landscape" if order.width > order.height else "portrait"
    echo = json.dumps({"prompt": order.prompt, "orientation": orientation}, ensure_ascii=False)
    site = "https://asyncdata.net"
    pages = f"[数据预览]({site}/web/{view.task_id}) | [原始数据]({site}/source/{view.task_id})"
    return f"{FENCE}json\n{echo}\n{FENCE}\n> ID: `{view.task_id}`\n>{pages}\n"


def _links(view: View) -> str:
    if not view.videos:
        return ""
    video = view.videos[0]
    sid = f"> sid: s_{video.generation_id.removeprefix('gen_')}\n"
    return f"{sid}![{video.thumbnail_url}]({video.thumbnail_url})\n[在线播放▶️]({video.url})\n"


def _reasoning(news: News) -> Deltas:
    yield {"role": "assistant", "content": None, "reasoning_content": "**Video Generation Process Begins**\n"}
    for view in news:
        if isinstance(view, float):
            yield view
        elif not view.ended:
            stage = STAGES.get(view.status, view.status)
            line = f"\n**Video Generation Progress**: {view.percent}% ({stage})\n"
            yield {"content": None, "reasoning_content": line}
        else:
            yield {"content": _html(view), "finish_reason": "STOP"}


def _html(view: View) -> str:
    if view.failure is not None:
        return _apology(view)
    url = _url(view)
    return f"{FENCE}html\n<video src='{url}' controls></video>\n{FENCE}" if url else ""


def _output(news: News) -> Deltas:
    for view in news:
        if isinstance(view, float):
            yield view
            continue
        stage = STAGES.get(view.status, view.status)
        mark = {"stage": stage, "attempt": 1, "can_cancel": not view.ended, "task_id": view.task_id}
        if not view.ended:
            line = f"\n**Video Generation Progress**: {view.percent}% ({stage})\n"
            yield {"content": None, "reasoning_content": line, "wm": mark}
        else:
            made = [{"url": _url(view), "type": "video", "task_id": view.task_id}] if view.videos else []
            yield {"content": _html(view), "output": made, "wm": mark, "finish_reason": "STOP"}


def _emoji(news: News) -> Deltas:
    for view in news:
        if isinstance(view, float):
            yield view
        elif view.status == "queued":
            yield {"role": "assistant", "content": "🎬 排队中\n"}
        elif not view.ended:
            yield {"content": f"⏳ 生成中 {view.percent}%\n"}
        else:
            yield {"content": _apology(view) if view.failure else _url(view) or "", "finish_reason": "stop"}


def _once(word: Callable[[str], str]) -> Telling:
    """Nothing but the end."""

    def tell(news: News) -> Deltas:
        yield {"role": "assistant", "content": ""}
        for view in _ended(news):
            if isinstance(view, float):
                yield view
            else:
                url = _url(view)
                said = _apology(view) if view.failure is not None else word(url) if url else ""
                yield {"content": said, "finish_reason": "stop"}

    return tell


TELLINGS: Mapping[ChatAnswer, Telling] = {
    "transcript": _transcript,
    "reasoning": _reasoning,
    "output": _output,
    "emoji": _emoji,
    "link": _once(lambda url: f"video generated successful,[click here]({url})"),
    "url": _once(lambda url: url),
    "json": _once(lambda url: json.dumps({"url": url})),
}
