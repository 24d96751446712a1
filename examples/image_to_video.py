"""A picture that a tool draws becomes the opening of a video.

The chat model decides what is drawn; the picture itself goes from the tool's artifact into `inpaint_items`, past the
model, which could not copy so many bytes. (An image tool that answers with an https address needs no such chain: an
agent copies the address.) Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and
SORA_API_KEY for a gateway of your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import sys

from langchain.messages import AIMessage, ToolMessage
from langchain.tools import tool
from langchain_core.runnables import RunnableLambda
from PIL import Image, ImageDraw

from sora_tools import InpaintItem, Sora, VideoRequest
from sora_tools.demo import chat_model, gateway
from sora_tools.media import data_url

prompt = " ".join(sys.argv[1:]) or "The sun rises over a calm sea"


@tool(response_format="content_and_artifact")
def draw_sun(sky: str, sun: str) -> tuple[str, str]:
    """Draw a sun in the sky. Both colours as "#rrggbb"."""
    image = Image.new("RGB", (480, 270), sky)
    ImageDraw.Draw(image).circle((240, 135), 60, fill=sun)
    return "The picture is drawn.", data_url(image)


def request(picture: ToolMessage) -> VideoRequest:
    """A video that opens on the picture."""
    opening = InpaintItem(url=picture.artifact)
    return VideoRequest(prompt=prompt, width=480, height=270, n_frames=60, inpaint_items=(opening,))


call = {"name": "draw_sun", "args": {"sky": "#f4a261", "sun": "#e76f51"}, "id": "call_1", "type": "tool_call"}
model = chat_model(AIMessage("", tool_calls=[call])).bind_tools([draw_sun], tool_choice="draw_sun")

with gateway(), Sora() as sora:
    picture = model | (lambda message: message.tool_calls[0]) | draw_sun
    task = (picture | request | RunnableLambda(sora.generate).bind(directory="videos")).invoke(prompt)
    print(task.generations[0].file)
