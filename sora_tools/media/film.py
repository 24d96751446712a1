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
_RGB = 0  # among the ways to write colours down
_FROM_RGB = ColorRange.MPEG, 6, 2, 2  # SMPTE 170M: how pictures are written that came in other colours than one
_ENCODER = {
    "preset": "veryfast",
    "crf": "16",  # nothing is seen to be lost
    "bf": "0",  # with frames out of order an MP4 cannot say how long each one is shown where rates differ
}
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
    colours: tuple[int, int, int, int]
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
        count, last, lead, tail = 0, (start, 0), None, start
        untouched = codec.name == "h264" and "mp4" in container.format.name
        for packet in container.demux(stream):
            if not packet.size:
                continue
            count += 1
            if packet.pts is None or packet.dts is None or packet.is_discard:
                untouched = False
            elif count == 1 and untouched:
                untouched = _starts_over(bytes(packet))
            if packet.pts is not None and not packet.is_discard:
                last = max(last, (packet.pts, packet.duration or int(1 / rate / base)))
            if packet.dts is not None:
                lead, tail = packet.dts if lead is None else lead, packet.dts
        end = sum(last)
        colours = codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc
        shared = codec.extradata, base, stream.sample_aspect_ratio, *colours
        return _Clip(
            path=path,
            size=(codec.width, codec.height),
            start=start * base,
            duration=(end - start) * base,
            likeness=shared if untouched and count == shown else None,
            lead=((lead or 0) - start) * base,
            tail=(tail - end) * base,
            colours=colours,
            sounds=bool(container.streams.audio),
        )


def _starts_over(data: bytes) -> bool:
    """Whether nothing in or after a packet of H.264, as it lies in an MP4, builds on what was before it.

    A key frame alone does not say so: some let frames after them look back, and would find the clip before.
    """
    place = 0
    while place + 4 < len(data):
        if data[place + 4] & 31 == 5:  # a slice of an IDR picture
            return True
        place += 4 + int.from_bytes(data[place : place + 4])
    return False


@contextmanager
def _writing(file: Path, film: Path) -> Iterator[OutputContainer]:
    try:
        with av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            yield container
    except av.FFmpegError as error:
        raise OSError(error.errno, f"the film cannot be written ({error.strerror})", str(film)) from error


def _write(container: OutputContainer, clips: Sequence[_Clip]) -> None:
    seen = _Pictures(container, clips)
    heard = _Sound(container) if any(clip.sounds for clip in clips) else None
    end = Fraction(0)
    for clip in clips:
        shift = end - clip.start
        end += clip.duration
        for part in _contents(clip, packets=seen.copied, sound=heard is not None):
            if not isinstance(part, av.AudioFrame):
                place = seen.show(part, shift)
                if heard is not None and not clip.sounds:
                    heard.rest(until=place)  # as pictures come, or one would lie behind the other in the file
            elif heard is not None:
                heard.play(part, shift, until=end)
        if heard is not None:
            heard.rest(until=end)
    seen.end(end)
    if heard is not None:
        heard.end()


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
        yield from filter(None, resampler.resample(None))  # one with nothing to do hands the None back


class _Pictures:
    """The film's pictures: copied where one description fits all clips and their times follow on, else encoded."""

    def __init__(self, container: OutputContainer, clips: Sequence[_Clip]) -> None:
        first = clips[0]
        self._container = container
        self.copied = (
            first.likeness is not None
            and all(clip.likeness == first.likeness for clip in clips)
            and all(one.tail < other.lead for one, other in pairwise(clips))
        )
        self._repainted = (
            any(clip.colours != first.colours for clip in clips)
            or first.colours[0] == ColorRange.JPEG
            or first.colours[1] == _RGB
        )
        with reading(first.path) as source:
            model = source.streams.video[0]
            self._stream = (
                container.add_stream_from_template(model, opaque=True) if self.copied else self._encoder(model, first)
            )

    def show(self, part: _Picture, shift: Fraction) -> Fraction:
        """Add a picture, or the packet that holds one, moved by ``shift``, and say where in the film it is."""
        pts, base = part.pts or 0, part.time_base or Fraction(1)  # both are there: the clip was examined
        place = pts * base + shift
        if isinstance(part, av.Packet):
            ticks = int(shift / base)
            part.pts, part.dts, part.stream = pts + ticks, (part.dts or 0) + ticks, self._stream
            self._container.mux(part)
            return place
        picture = part
        if self._repainted:
            picture = av.VideoFrame.from_image(part.to_image())  # type: ignore[no-untyped-call]  # av's stubs
        picture.pts, picture.time_base = round(place * _TICKS), Fraction(1, _TICKS)
        picture.pict_type = PictureType.NONE  # else the encoder would put key frames where they were
        self._container.mux(self._stream.encode(picture))
        return place

    def end(self, until: Fraction) -> None:
        """Write what the encoder still holds; the last picture is shown up to the end."""
        if self.copied:
            return
        for packet in self._stream.encode():
            if packet.pts is not None and packet.time_base is not None:
                packet.duration = round(until / packet.time_base) - packet.pts
            self._container.mux(packet)

    def _encoder(self, model: VideoStream, first: _Clip) -> VideoStream:
        stream = self._container.add_stream("libx264", model.average_rate, options=_ENCODER)
        stream.width, stream.height = first.size
        stream.pix_fmt = "yuv420p" if first.size[0] % 2 == first.size[1] % 2 == 0 else "yuv444p"
        if model.sample_aspect_ratio is not None:
            stream.sample_aspect_ratio = model.sample_aspect_ratio
        codec, codec.time_base = stream.codec_context, Fraction(1, _TICKS)
        colours = _FROM_RGB if self._repainted else first.colours
        codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc = colours
        return stream


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
