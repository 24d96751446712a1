"""Stills out of videos: the right frame of any file, posters, and images as text that a gateway opens a video with."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import struct
import warnings
import zlib

import av
import pytest
from clips import (
    B_FRAMES,
    HEVC,
    NO_B_FRAMES,
    OPEN_GOP,
    SIZE,
    decoded,
    difference,
    number_of,
    numbered,
    trimmed,
    without_its_start,
    write_clip,
)
from PIL import Image, ImageCms, ImageFile
from PIL.PngImagePlugin import PngInfo

from sora_tools import InpaintItem, Sora, VideoRequest
from sora_tools.media import data_url, frame, frames, poster, probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "v.mp4", range(40))


def opened(url):
    head, _, data = url.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


# frame


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("b_frames.mp4", {"options": B_FRAMES}),
        ("open_gop.mp4", {"options": OPEN_GOP}),
        ("in_order.mp4", {"options": NO_B_FRAMES}),
        ("late.mp4", {"times": [5000 + 33 * index for index in range(40)]}),
        ("uneven.mp4", {"times": [index * index for index in range(40)]}),
        ("v.mkv", {}),
        ("v.ts", {}),
        ("v.avi", {"codec": "mpeg4", "options": {"bf": "0"}}),
        ("v.mov", {"codec": "mpeg4", "options": {"bf": "2"}}),
        ("v.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "20"}}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "20"}}),
    ],
)
def test_the_frame_is_the_one_a_player_shows(tmp_path, name, settings):
    video = write_clip(tmp_path / name, range(100, 140), **settings)
    numbers, _ = decoded(video)
    assert numbers == list(range(100, 140))
    for index in (0, 1, 17, 38, 39, -1, -2, -17, -40):
        image = frame(video, index)
        assert (image.mode, image.size, number_of(image)) == ("RGB", SIZE, numbers[index])
    assert [number_of(image) for image in frames(video, 5)] == [100, 110, 120, 129, 139]


def test_frames_that_an_edit_list_cuts_off_are_not_counted(clip, tmp_path):
    video = trimmed(clip, tmp_path / "v.mp4", 5)
    assert decoded(video)[0] == list(range(5, 40))
    assert probe(video).n_frames == 35
    assert [number_of(frame(video, index)) for index in (0, 34, -1, -35)] == [5, 39, 39, 5]
    with pytest.raises(IndexError, match="it has 35"):
        frame(video, 35)


def test_frames_that_are_in_the_file_and_cannot_be_shown_are_not_counted(tmp_path):
    whole = write_clip(tmp_path / "v.mp4", range(40), codec="libx265", options=HEVC)
    video = without_its_start(whole, tmp_path / "v.ts")
    assert probe(video).n_frames == 35  # three of them build on what is gone
    assert decoded(video)[0] == list(range(8, 40))
    assert [number_of(frame(video, index)) for index in (0, 31, -1, -32)] == [8, 39, 39, 8]
    assert [number_of(image) for image in frames(video, 3)] == [8, 24, 39]
    with pytest.raises(IndexError, match="no frame -33; it has 32"):
        frame(video, -33)


@pytest.mark.parametrize("index", [40, 1000, -41, -1000])
def test_a_frame_that_is_not_there_is_named_with_how_many_there_are(clip, index):
    with pytest.raises(IndexError, match=rf"v\.mp4: no frame {index}; it has 40, 0 to 39 or -40 to -1"):
        frame(clip, index)


def test_an_early_frame_needs_nothing_of_what_comes_after_it(tmp_path):
    video = write_clip(tmp_path / "v.mp4", range(40), options=NO_B_FRAMES, front=True)
    data = bytearray(video.read_bytes())
    data[-400:] = bytes(400)
    video.write_bytes(data)
    assert number_of(frame(video)) == 0
    with pytest.raises(ValueError, match="damaged after"):
        frame(video, -1)


def test_colours_are_those_the_file_says(tmp_path):
    for space in (1, 6):  # ITU-R BT.709 and SMPTE 170M write the same red down differently
        with av.open(str(tmp_path / "v.mp4"), "w") as container:
            stream = container.add_stream("libx264", 30, options={"crf": "5"})
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.codec_context.colorspace = space
            red = av.VideoFrame.from_image(Image.new("RGB", SIZE, (200, 30, 40)))
            container.mux(stream.encode(red.reformat(format="yuv420p", dst_colorspace=space)))
            container.mux(stream.encode())
        assert difference(frame(tmp_path / "v.mp4"), Image.new("RGB", SIZE, (200, 30, 40))) < 3


async def test_a_coroutine_hands_the_work_to_a_thread(clip):
    last, some = await asyncio.gather(asyncio.to_thread(frame, clip, -1), asyncio.to_thread(frames, clip, 2))
    assert (number_of(last), [number_of(image) for image in some]) == (39, [0, 39])


# frames


@pytest.mark.parametrize(
    ("count", "numbers"),
    [(1, [0]), (2, [0, 39]), (3, [0, 20, 39]), (4, [0, 13, 26, 39]), (40, range(40)), (99, range(40))],
)
def test_frames_are_evenly_spaced_from_the_first_to_the_last(clip, count, numbers):
    assert [number_of(image) for image in frames(clip, count)] == list(numbers)


@pytest.mark.parametrize("count", [0, -3])
def test_less_than_one_frame_is_refused(clip, count):
    with pytest.raises(ValueError, match=f"count: {count} was given; 1 frame or more"):
        frames(clip, count)


# poster


def test_a_poster_is_no_black_frame(tmp_path):
    """Black at both ends, bars in the middle."""
    video = write_clip(tmp_path / "v.mp4", [0] * 14 + [0b010101010101] * 8 + [0] * 14)
    assert poster(video, tmp_path / "poster.anything") == tmp_path / "poster.anything"
    with Image.open(tmp_path / "poster.anything") as image:
        assert (image.format, image.size, number_of(image)) == ("PNG", SIZE, 0b010101010101)
    again = poster(str(video), str(tmp_path / "again.png"))
    assert again.read_bytes() == (tmp_path / "poster.anything").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.png", "poster.anything", "v.mp4"]


def test_a_poster_of_a_single_frame_is_that_frame(tmp_path):
    with Image.open(poster(write_clip(tmp_path / "v.mp4", [5]), tmp_path / "p.png")) as image:
        assert number_of(image) == 5


def test_a_poster_that_cannot_be_written_names_its_path(clip, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/p\.png"):
        poster(clip, tmp_path / "nowhere" / "p.png")


# data_url


def test_a_frame_becomes_a_png_to_the_pixel(clip):
    image = frame(clip, 21)
    url = data_url(image)
    assert url.startswith("data:image/png;base64,")
    assert opened(url).tobytes() == image.tobytes()
    assert InpaintItem(url=url).url == url


def test_an_image_may_come_as_a_file_or_its_bytes(tmp_path):
    image = numbered(1365)
    for name in ("i.png", "i.webp", "i.bmp"):
        image.save(tmp_path / name, lossless=True)
        for given in (tmp_path / name, str(tmp_path / name), (tmp_path / name).read_bytes()):
            assert opened(data_url(given)).convert("RGB").tobytes() == image.tobytes()


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40), "red").save(tmp_path / "i.jpg", exif=exif)
    turned = opened(data_url(tmp_path / "i.jpg"))
    assert (turned.size, turned.getexif().get(0x0112, 1)) == ((40, 80), 1)


def test_transparency_is_kept_in_a_png_and_white_in_a_jpeg():
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert opened(data_url(clear)).getpixel((5, 5))[3] == 0
    noise = Image.effect_noise((200, 200), 90).convert("RGBA")
    noise.putalpha(0)
    assert opened(data_url(noise, max_length=20_000)).getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "F", "YCbCr", "HSV"])
def test_every_kind_of_image_can_be_written(mode):
    assert opened(data_url(Image.new(mode, (20, 10)))).size == (20, 10)


def test_the_text_is_never_longer_than_allowed():
    noise = Image.merge("RGB", [Image.effect_noise((640, 360), 120)] * 3)
    seen = set()
    for length in (2_000, 20_000, 100_000, 300_000, 4_000_000):
        url = data_url(noise, max_length=length)
        image = opened(url)
        assert len(url) <= length
        assert image.width / image.height == pytest.approx(16 / 9, rel=0.05)
        seen.add((image.format, image.size))
    assert ("PNG", (640, 360)) in seen
    assert ("JPEG", (640, 360)) in seen
    assert len(seen) > 3


def test_a_side_can_be_bounded(clip):
    image = frame(clip)
    assert opened(data_url(image, max_side=48)).size == (48, 27)
    assert opened(data_url(image, max_side=960)).size == SIZE
    assert image.size == SIZE  # the caller's own stays as it is


@pytest.mark.parametrize("wrong", [{"max_length": 1999}, {"max_side": 0}])
def test_bounds_too_small_are_refused(wrong):
    with pytest.raises(ValueError, match="at least 2000 characters and 1 pixel"):
        data_url(numbered(1), **wrong)


def test_what_is_no_image_is_named(clip, tmp_path):
    with pytest.raises(ValueError, match=r"v\.mp4: not an image that can be read; frame\(\) takes one out of"):
        data_url(clip)
    with pytest.raises(ValueError, match="the bytes: not an image"):
        data_url(b"<html>")
    whole = base64.b64decode(data_url(numbered(9)).partition(",")[2])
    with pytest.raises(ValueError, match="the bytes: not an image"):
        data_url(whole[: len(whole) // 2])
    with pytest.raises(FileNotFoundError):
        data_url(tmp_path / "nowhere.png")


# data_url, of images that somebody else made


def noise(size=(200, 200)):
    return Image.merge("RGB", [Image.effect_noise(size, 80)] * 3)


def saved(image, kind, **more):
    data = io.BytesIO()
    image.save(data, kind, **more)
    return data.getvalue()


def told(text):
    """Words for a PNG to carry."""
    words = PngInfo()
    words.add_text("comment", text)
    words.add_itxt("XML:com.adobe.xmp", text)
    return words


LONG = "x" * 60_000
CHATTY = {
    "jpeg": lambda: saved(noise(), "JPEG", comment=LONG.encode(), exif=b"Exif\0\0" + LONG.encode()[:60_000]),
    "jpeg profile": lambda: saved(noise(), "JPEG", icc_profile=LONG.encode()),
    "jpeg xmp": lambda: saved(noise(), "JPEG", xmp=LONG.encode()),
    "png": lambda: saved(noise(), "PNG", pnginfo=told(LONG), icc_profile=LONG.encode()),
    "gif": lambda: saved(noise().convert("P"), "GIF", comment=LONG.encode()),
    "webp": lambda: saved(noise(), "WEBP", icc_profile=LONG.encode(), xmp=LONG.encode()),
    "tiff": lambda: saved(noise(), "TIFF", icc_profile=LONG.encode()),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", CHATTY)
@pytest.mark.parametrize("max_length", [2_000, 40_000, 4_000_000])
def test_nothing_goes_along_but_the_picture(kind, max_length):
    for given in (CHATTY[kind](), Image.open(io.BytesIO(CHATTY[kind]()))):
        url = data_url(given, max_length=max_length)
        assert len(url) <= max_length
        assert b"x" * 50 not in base64.b64decode(url.partition(",")[2])
        assert not {"comment", "exif", "icc_profile", "xmp", "XML:com.adobe.xmp"} & opened(url).info.keys()


@pytest.mark.timeout(30)
def test_a_picture_that_never_fits_ends_in_an_error(monkeypatch):
    monkeypatch.setattr("sora_tools.media.stills._url", lambda *_, **__: "x" * 2_001)
    with pytest.raises(ValueError, match="max_length 2000: no picture fits so few characters"):
        data_url(noise((300, 2)), max_length=2_000)


def test_colours_are_seen_as_before_without_the_profile_that_said_how(tmp_path):
    """A profile whose red and green change places: it is taken off, so the pixels have to say the same."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = (profile.index(tag, 128) for tag in (b"rXYZ", b"gXYZ"))
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    for mode in ("RGB", "RGBA"):
        swapped = saved(Image.new(mode, (20, 20), (250, 10, 10)), "PNG", icc_profile=bytes(profile))
        assert difference(opened(data_url(swapped)), Image.new("RGB", (20, 20), (10, 250, 10))) < 12
    plainly = saved(Image.new("RGB", (20, 20), (250, 10, 10)), "PNG", icc_profile=bytes(profile[:140]))
    assert difference(opened(data_url(plainly)), Image.new("RGB", (20, 20), (250, 10, 10))) == 0


def zeros(width, height):
    """A PNG of a few kilobytes, however large."""
    data = zlib.compress(bytes((width // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.parametrize("warned", ["ignore", "error"])
@pytest.mark.parametrize("size", [(8200, 8192), (13_000, 13_000), (30_000, 30_000), (70_000_000, 1)], ids=str)
def test_a_small_file_that_is_a_giant_picture_is_never_decoded(size, warned, tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    data = zeros(*size)
    assert len(data) < 250_000
    (tmp_path / "i.png").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter(warned, Image.DecompressionBombWarning)
        for given, name in ((data, "the bytes"), (tmp_path / "i.png", r"i\.png")):
            with pytest.raises(ValueError, match=rf"{name}: too many pixels \(.+\); 67,108,864 at most"):
                data_url(given, max_side=64)


def test_a_giant_picture_of_pillows_is_refused_too():
    with pytest.raises(ValueError, match=r"the image: too many pixels \(8200x8192\)"):
        data_url(Image.open(io.BytesIO(zeros(8200, 8192))))


def test_an_icon_and_a_program_are_no_pictures_to_open(tmp_path):
    """An icon may hold a larger picture than it says, and a program is run by another one."""
    for kind in ("ICO", "EPS", "PPM"):
        with pytest.raises(ValueError, match=f"the bytes: a picture of the kind {kind}; one of PNG, JPEG"):
            data_url(saved(noise(), kind))


def test_a_picture_too_long_for_a_jpeg_becomes_a_smaller_one():
    long = Image.effect_noise((70_000, 20), 120).convert("RGB")
    image = opened(data_url(long, max_length=500_000))
    assert image.format == "JPEG"
    assert image.width <= 65_500


def test_a_photograph_is_decoded_no_larger_than_needed(monkeypatch):
    photograph = saved(numbered(1365, (3200, 1800)), "JPEG", quality=95)
    decoded_sizes = []
    load = ImageFile.ImageFile.load

    def watched(self):
        decoded_sizes.append(self.size)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    image = opened(data_url(photograph, max_side=320))
    assert (image.size, number_of(image)) == ((320, 180), 1365)
    assert decoded_sizes[0] == (1600, 900)


@pytest.mark.timeout(30)
def test_what_has_no_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for given in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=rf"{given}: not a regular file"):
            data_url(given)
    with pytest.raises(IsADirectoryError):
        data_url(tmp_path)


# The way back to a gateway


@pytest.mark.parametrize("max_length", [4_000_000, 30_000], ids=["png", "jpeg"])
def test_the_next_video_opens_on_the_last_frame_of_the_one_before(sandbox, tmp_path, max_length):
    size = {"width": 320, "height": 180, "n_frames": 6}
    with Sora(base_url=sandbox.base_url, api_key="sk-test") as sora:
        before = (
            sora.generate(VideoRequest(prompt="a lighthouse at dusk", **size), directory=tmp_path).generations[0].file
        )
        last = frame(before, -1)
        url = data_url(last, max_length=max_length)
        assert url.startswith("data:image/png" if max_length > 30_000 else "data:image/jpeg")
        item = InpaintItem(url=url, frame_index=0)
        after = sora.generate(
            VideoRequest(prompt="the lamp goes out", inpaint_items=(item,), **size), directory=tmp_path
        )
        other = sora.generate(VideoRequest(prompt="the lamp goes out", **size), directory=tmp_path).generations[0].file
    assert sandbox.creates == 3
    near, far = difference(last, frame(after.generations[0].file)), difference(last, frame(other))
    assert near < 4, near
    assert far > 20, far
