"""Looking at finished videos, and making the next step out of them: measures, stills, contact sheets and films.

    probe          size, frames, rate, duration and codec
    frame, frames  one frame, or some evenly spaced ones, as Pillow images
    poster         a PNG of one good frame
    contact_sheet  a PNG of many, each with its time
    data_url       an image as text, for ``inpaint_items`` and for models that see
    concatenate    clips of one size, one after the other, as one MP4

What is said of a file is counted, not believed: a container's header may promise frames that were never written.
Frames are decoded one after the other from the first on, and only those that are wanted are kept, so a long video takes
time but no memory. There is no jumping to a frame: where a jump lands is exact in some files and not in others.

Files are read and written while the caller waits; in a coroutine call ``await asyncio.to_thread(frame, video, -1)``.
Errors are Python's own: :class:`OSError` for a file that cannot be opened or written, :class:`ValueError` for one that
is no video, is broken or does not fit, :class:`IndexError` for a frame that is not there.
"""

from __future__ import annotations

from importlib.util import find_spec

if missing := [name for name in ("av", "PIL") if find_spec(name) is None]:
    raise ImportError(f"sora_tools.media needs {', '.join(missing)}: pip install 'sora-tools[media]'")

from .film import concatenate
from .sheet import contact_sheet
from .stills import data_url, frame, frames, poster
from .video import VideoInfo, probe

__all__ = ["VideoInfo", "concatenate", "contact_sheet", "data_url", "frame", "frames", "poster", "probe"]
