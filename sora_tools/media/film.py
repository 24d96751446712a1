"""Clips of one size, one after the other, as one MP4.

Every clip is decoded once before anything is written: a broken one is named, and how many frames it has and how long
they last is known, not believed. Pictures are copied as they are where one description fits them all and their times
follow on each other, as with clips that one gateway made; else all are encoded anew. Sound is always encoded anew,
exactly as long as its clip's pictures, or what one clip has too much would put the next ones out of step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from .files import reading, whole
from .video import pictures

_TICKS = 90_000  # a second, in what is encoded anew: every usual rate is a whole number of them
_FROM_RGB = 6  # the colours (SMPTE 170M) that pictures without any of their own are written in
_ENCODER = {"preset": "fast", "crf": "16"}  # nothing is seen to be lost
_RATE, _LAYOUT, _SAMPLE_BYTES = 48_000, "stereo", 4
_JITTER = _RATE // 200  # samples that a time may be off by because its file counts coarsely


def concatenate(clips: Sequence[str | os.PathLike[str]], film: str | os.PathLike[str]) -> Path:
    """Join clips of one size into one MP4, with its index in front so that it streams.

    The film has the frames of all clips, each shown as long as in its clip, so clips may differ in rate. Clips that
    one encoder wrote with the same settings lose nothing; others are encoded anew as H.264. Sound is kept, as AAC in
    stereo, with silence for clips that have none; a film of silent clips has no sound track.

    Args:
        clips: Paths of the clips in order, 1 or more. One may stand there twice.
        film: Where the MP4 goes; it appears when it is whole, so it may take the place of one of the clips.

    Returns:
        The path of the film.

    Raises:
        ValueError: There are no clips, two of them differ in size, or one is no video or is damaged.
        OSError: A clip cannot be opened or the film cannot be written.
    """
    if isinstance(clips, (str, bytes, os.PathLike)) or not clips:
        raise ValueError(f"clips: {clips!r} was given; a list of 1 path or more")
    parts = [_examined(Path(clip)) for clip in clips]
    for part in parts:
        if part.size != parts[0].size:
            sizes = " and ".join(f"{each.path} is {each.size[0]}x{each.size[1]}" for each in (parts[0], part))
            raise ValueError(f"clips of one size can be joined: {sizes}")
    with whole(film) as file, _writing(file, Path(film)) as container:
        _write(container, parts)
    return Path(film)


_Picture: TypeAlias = "Packet[Any] | av.VideoFrame"


@dataclass(frozen=True, slots=True)
class _Clip:
    """What is known of a clip once it was decoded. Times are in seconds.

    ``start`` is the time of the first picture. ``likeness`` is what clips must share for their pictures to be copied,
    None where they cannot be. ``lead`` is where decoding begins, counted from the first picture, and ``tail`` where it
    ends, counted from the end of the last: both lie before where frames build on later ones.
    """

    path: Path
    size: tuple[int, int]
    start: Fraction
    duration: Fraction
    likeness: tuple[Any, ...] | None
    lead: Fraction
    tail: Fraction
    sounds: bool


def _examined(path: Path) -> _Clip:
    shown, start = 0, None
    for picture in pictures(path):
        shown += 1
        if picture.pts is None:
            raise ValueError(f"{path}: its frames carry no times, so it cannot be joined; put it into an MP4 first")
        start = picture.pts if start is None else start
    assert start is not None  # pictures() gives one or more
    with reading(path) as container:
        stream = container.streams.video[0]
        codec, base, rate = stream.codec_context, stream.time_base or Fraction(1), stream.average_rate or Fraction(30)
        count, end, lead, tail = 0, 0, None, start
        untouched = codec.name == "h264" and "mp4" in container.format.name and codec.extradata is not None
        for packet in container.demux(stream):
            if not packet.size:
                continue
            count += 1
            if packet.pts is None or packet.dts is None or packet.is_discard:
                untouched = False
            if packet.pts is not None and not packet.is_discard:
                end = max(end, packet.pts + (packet.duration or int(1 / rate / base)))
            if packet.dts is not None:
                lead, tail = packet.dts if lead is None else lead, packet.dts
        shared = codec.extradata, base, stream.sample_aspect_ratio, *_colours(codec)
        return _Clip(
            path=path,
            size=(codec.width, codec.height),
            start=start * base,
            duration=(end - start) * base,
            likeness=shared if untouched and count == shown else None,
            lead=((lead or 0) - start) * base,
            tail=(tail - end) * base,
            sounds=bool(container.streams.audio),
        )


def _colours(codec: av.VideoCodecContext) -> tuple[int, ...]:
    return codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc


def _follow_on(clips: Sequence[_Clip]) -> bool:
    """Whether the pictures can be copied: one description for all, and no decoding time before the one before it."""
    alike = clips[0].likeness is not None and all(clip.likeness == clips[0].likeness for clip in clips)
    return alike and all(one.tail < other.lead for one, other in pairwise(clips))


@contextmanager
def _writing(file: Path, film: Path) -> Iterator[OutputContainer]:
    try:
        with av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            yield container
    except av.FFmpegError as error:
        raise OSError(error.errno, f"the film cannot be written ({error.strerror})", str(film)) from error


def _write(container: OutputContainer, clips: Sequence[_Clip]) -> None:
    copied = _follow_on(clips)
    stream = _copy(container, clips[0]) if copied else _encoder(container, clips[0])
    sound = _Sound(container) if any(clip.sounds for clip in clips) else None
    end = Fraction(0)
    for clip in clips:
        shift = end - clip.start
        end += clip.duration
        for part in _contents(clip, packets=copied, sound=sound is not None):
            if isinstance(part, av.AudioFrame):
                if sound is not None:
                    sound.play(part, shift, until=end)
                continue
            seconds = _shift(part, shift)
            container.mux(_packets(stream, part))
            if sound is not None and not clip.sounds:
                sound.rest(until=seconds)  # as pictures come, or the file would hold one after the other
        if sound is not None:
            sound.rest(until=end)
    if not copied:
        container.mux(stream.encode())
    if sound is not None:
        sound.end()


def _contents(clip: _Clip, *, packets: bool, sound: bool) -> Iterator[_Picture | av.AudioFrame]:
    """What is in a clip in the file's order: its pictures, or the packets that hold them, and its sound."""
    resampler = av.AudioResampler(format="s16", layout=_LAYOUT, rate=_RATE)
    with reading(clip.path) as container:
        picture = container.streams.video[0]
        picture.thread_type = "AUTO"
        heard = container.streams.audio[:1] if sound else ()
        for packet in container.demux((picture, *heard)):
            if packet.stream is picture and packets:
                if packet.size:
                    yield packet
                continue
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    yield frame
                elif isinstance(frame, av.AudioFrame):
                    yield from resampler.resample(frame)
        if not resampler.is_passthrough:
            yield from resampler.resample(None)


def _shift(part: _Picture, by: Fraction) -> Fraction:
    """Move a picture to its place in the film, and say where that is. Its times are known: the clip was examined."""
    pts, base = part.pts or 0, part.time_base or Fraction(1)
    if isinstance(part, av.Packet):
        part.pts, part.dts = pts + int(by / base), (part.dts or 0) + int(by / base)
    else:
        part.pts, part.time_base = round((pts * base + by) * _TICKS), Fraction(1, _TICKS)
    return pts * base + by


def _packets(stream: VideoStream, part: _Picture) -> list[Packet[Any]]:
    if isinstance(part, av.Packet):
        part.stream = stream
        return [part]
    part.pict_type = PictureType.NONE  # else the encoder would put key frames where they were
    return stream.encode(_in_colours(part, stream))


def _copy(container: OutputContainer, clip: _Clip) -> VideoStream:
    with reading(clip.path) as source:
        return container.add_stream_from_template(source.streams.video[0], opaque=True)


def _encoder(container: OutputContainer, clip: _Clip) -> VideoStream:
    with reading(clip.path) as source:
        model = source.streams.video[0]
        stream = container.add_stream("libx264", model.average_rate, options=_ENCODER)
        stream.width, stream.height = clip.size
        stream.pix_fmt = "yuv420p" if clip.size[0] % 2 == clip.size[1] % 2 == 0 else "yuv444p"
        stream.sample_aspect_ratio = model.sample_aspect_ratio
        codec, codec.time_base = stream.codec_context, Fraction(1, _TICKS)
        codec.color_range, codec.colorspace = ColorRange.MPEG, model.codec_context.colorspace or _FROM_RGB
        codec.color_primaries, codec.color_trc = model.codec_context.color_primaries, model.codec_context.color_trc
    return stream


def _in_colours(picture: av.VideoFrame, stream: VideoStream) -> av.VideoFrame:
    """The picture as the film writes colours down, which is as the first clip does."""
    space = stream.codec_context.colorspace
    if picture.colorspace == space and picture.color_range != ColorRange.JPEG:
        return picture
    seen = picture.reformat(format="rgb24", src_color_range=picture.color_range)
    return seen.reformat(format=stream.pix_fmt, dst_colorspace=space, dst_color_range=ColorRange.MPEG)


class _Sound:
    """The film's sound track, which never runs ahead of the pictures' places nor falls behind them."""

    def __init__(self, container: OutputContainer) -> None:
        self._container = container
        self._stream = container.add_stream("aac", _RATE, layout=_LAYOUT)
        self._written = 0

    def play(self, heard: av.AudioFrame, shift: Fraction, *, until: Fraction) -> None:
        """Add what is heard, moved by ``shift``: silence before it where there is a gap, nothing beyond ``until``."""
        early = 0
        if heard.pts is not None and heard.time_base is not None:
            place = round((heard.pts * heard.time_base + shift) * _RATE)
            if place - self._written > _JITTER:
                self._rest(place)
            elif self._written - place > _JITTER:
                early = self._written - place
        room = max(0, round(until * _RATE) - self._written)
        samples = bytes(heard.planes[0])[: heard.samples * _SAMPLE_BYTES]
        self._add(samples[early * _SAMPLE_BYTES : (early + room) * _SAMPLE_BYTES])

    def rest(self, *, until: Fraction) -> None:
        """Add silence up to a time."""
        self._rest(round(until * _RATE))

    def end(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode())

    def _rest(self, place: int) -> None:
        while self._written < place:
            self._add(bytes(min(1024, place - self._written) * _SAMPLE_BYTES))

    def _add(self, samples: bytes) -> None:
        if not samples:
            return
        frame = av.AudioFrame("s16", _LAYOUT, len(samples) // _SAMPLE_BYTES)
        frame.planes[0].update(samples)
        frame.sample_rate, frame.pts, frame.time_base = _RATE, self._written, Fraction(1, _RATE)
        self._written += frame.samples
        self._container.mux(self._stream.encode(frame))
