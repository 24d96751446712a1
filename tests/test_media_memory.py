"""A video fifty times as long takes time, and no more memory: measured in processes of their own, FFmpeg's included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clips import write_clip

FAST = {"preset": "ultrafast", "tune": "zerolatency", "crf": "28"}
SIZE = (320, 180)
LONG, SHORT = 3000, 60
RAW = LONG * SIZE[0] * SIZE[1] * 1.5 / 2**20
"""MiB that the long one's frames would take, as the decoder hands them out."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="how much memory a process took at most is read from Linux's /proc"
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clips")
    write_clip(directory / "other.mp4", range(10), size=SIZE, rate=24)
    sounds = {"size": SIZE, "options": FAST, "beep": 1.5}
    return {count: write_clip(directory / f"{count}.mp4", range(count), **sounds) for count in (LONG, SHORT)}


def peak(work, video):
    """MiB that a process took at most to do a piece of work."""
    other, out = video.with_name("other.mp4"), video.with_suffix(".out")
    code = f"""if True:
        from sora_tools.media import *
        video, other, out = {str(video)!r}, {str(other)!r}, {str(out)!r}
        {work}
        print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    return int(done.stdout) / 1024


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "work",
    [
        "probe(video)",
        "frame(video, -1)",
        "frame(video, -40)",
        "frames(video, 9)",
        "poster(video, out)",
        "contact_sheet(video, out)",
        "concatenate([video, other], out)",
        pytest.param("concatenate([video, video], out)", marks=pytest.mark.long),
    ],
)
def test_a_long_video_takes_no_more_memory_than_a_short_one(clips, work, record_property):
    short, long = peak(work, clips[SHORT]), peak(work, clips[LONG])
    record_property("MiB", (short, long))
    assert long - short < RAW / 20, (short, long)
