"""Clips whose every frame tells its number, and whose sound tells where it is."""

from __future__ import annotations

import math
from array import array
from fractions import Fraction

import av
from PIL import Image, ImageChops, ImageDraw, ImageStat

BITS = 12
SIZE = (96, 54)
B_FRAMES = {"crf": "18", "x264-params": "bframes=3:b-adapt=0:keyint=12:scenecut=0"}
OPEN_GOP = {"crf": "18", "x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=8:min-keyint=8:scenecut=0"}
HEVC = {"x265-params": "open-gop=1:bframes=3:b-adapt=0:keyint=8:min-keyint=8:scenecut=0:log-level=none"}
NO_B_FRAMES = {"crf": "18", "x264-params": "bframes=0:keyint=12"}


def numbered(number, size=SIZE):
    """A picture that shows a number, up to 4095, as twelve upright bars, black or white."""
    image = Image.new("RGB", size)
    canvas = ImageDraw.Draw(image)
    for bit in range(BITS):
        if number >> bit & 1:
            canvas.rectangle((size[0] * bit // BITS, 0, size[0] * (bit + 1) // BITS - 1, size[1]), fill="white")
    return image


def number_of(image):
    across = image.width / BITS
    middles = [image.getpixel((round(across * (bit + 0.5)), image.height // 2))[0] for bit in range(BITS)]
    assert all(level < 70 or level > 185 for level in middles), middles
    return sum(1 << bit for bit, level in enumerate(middles) if level > 127)


def write_clip(
    path,
    numbers,
    *,
    size=SIZE,
    rate=30,
    times=None,
    codec="libx264",
    options=B_FRAMES,
    pix="yuv420p",
    beep=None,
    front=False,
):
    """Frames that show these numbers, at ``times`` in milliseconds or evenly; a beep of 0.1 s from ``beep`` s on."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if front else {}) as container:
        stream = container.add_stream(codec, rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pix
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", 44100, layout="mono") if beep is not None else None
        count = 0
        for count, number in enumerate(numbers, 1):
            frame = av.VideoFrame.from_image(numbered(number, size))
            frame.pts = times[count - 1] if times else count - 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            for start in range(0, count * 44100 // rate, 1024):
                container.mux(sound.encode(tone(start, beep)))
            container.mux(sound.encode())
    return path


def tone(start, beep):
    waves = array("h")
    for sample in range(start, start + 1024):
        heard = beep <= sample / 44100 < beep + 0.1
        waves.append(int(20000 * math.sin(sample * 0.2)) if heard else 0)
    frame = av.AudioFrame("s16", "mono", 1024)
    frame.planes[0].update(waves.tobytes())
    frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
    return frame


def trimmed(clip, path, n_frames):
    """The same file with its first frames cut off by an edit list: they are in it, and are not shown."""
    with av.open(str(clip)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        base, rate = source.streams.video[0].time_base, source.streams.video[0].average_rate
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts -= int(n_frames / rate / base)
                packet.dts -= int(n_frames / rate / base)
                packet.stream = stream
                container.mux(packet)
    return path


def from_its_second_key_frame(clip, path):
    """What an open-GOP clip of 30 a second shows from frame 8 on, as a file that looks whole in every other way."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
        skipped = 8 * int(1 / source.streams.video[0].time_base / 30)
        kept = [packet for packet in source.demux(video=0) if packet.size and packet.pts >= skipped]
        for packet in kept:
            packet.pts, packet.dts, packet.stream = packet.pts - skipped, packet.dts - skipped, stream
        kept[0].dts = kept[1].dts - (kept[2].dts - kept[1].dts)  # what stood between is gone
        for packet in kept:
            container.mux(packet)
    return path


def without_its_start(clip, path):
    """A transport stream cut before the second key frame: what the first frames in it build on is gone."""
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
        keys = 0
        for packet in source.demux(video=0):
            keys += packet.is_keyframe
            if packet.size and keys > 1:
                packet.stream = stream
                container.mux(packet)
    return path


def decoded(path):
    """Everything a player would show: the number of each frame and its time in milliseconds from the first one's."""
    with av.open(str(path)) as container:
        shown = [(frame.pts * frame.time_base, number_of(frame.to_image())) for frame in container.decode(video=0)]
    return [number for _, number in shown], [round(1000 * (time - shown[0][0])) for time, _ in shown]


def beeps(path):
    """When something begins to be heard in a file, in seconds, after silence of 50 ms or more."""
    found, last = [], -1.0
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        for frame in container.decode(audio=0):
            for plain in resampler.resample(frame):
                start = plain.time
                for place, level in enumerate(array("h", bytes(plain.planes[0])[: 2 * plain.samples])):
                    if abs(level) > 3000:
                        now = start + place / rate
                        if now - last > 0.05:
                            found.append(now)
                        last = now
    return found


def difference(one, other):
    """How far two pictures of one size are apart: levels of 255, on average."""
    return sum(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean) / 3
