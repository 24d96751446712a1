"""The sandbox's videos: exact in size and length, moving, told apart, legible."""

from __future__ import annotations

import io
from itertools import pairwise

import av
import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from sora_tools.sandbox import lettering
from sora_tools.sandbox.lettering import lay_out
from sora_tools.sandbox.render import render_thumbnail, render_video
from sora_tools.sandbox.scene import Scene

SMALL = {"width": 160, "height": 96}


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def difference(one, other):
    """Mean difference of two pictures, from 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def image_bytes(image):
    stored = io.BytesIO()
    image.save(stored, "PNG")
    return stored.getvalue()


def bright(picture, box):
    """The box of what is nearly white inside ``box``, relative to it."""
    darkest = picture.crop(box).convert("RGB").split()
    least = ImageChops.darker(ImageChops.darker(darkest[0], darkest[1]), darkest[2])
    return least.point([255 if level > 225 else 0 for level in range(256)]).getbbox()


# Exactness


@pytest.mark.parametrize(
    ("width", "height", "n_frames"),
    [
        (1, 1, 2),
        (2, 2, 1),
        (3, 1, 1),
        (1, 500, 1),
        (500, 1, 1),
        (16, 16, 5),
        (17, 33, 2),
        (853, 479, 2),
        (720, 1080, 2),
        (1920, 1080, 2),
        (854, 480, 150),
    ],
)
def test_size_length_and_rate_are_exact(tmp_path, width, height, n_frames):
    path = tmp_path / "video.mp4"
    render_video(path, prompt="A long prompt about 一只猫 " * 9, width=width, height=height, n_frames=n_frames)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.width, frame.height, frame.time) for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 30
        assert stream.frames == n_frames
        assert float(stream.duration * stream.time_base) == pytest.approx(n_frames / 30)
    assert frames == [(width, height, pytest.approx(index / 30)) for index in range(n_frames)]


def test_the_index_stands_before_the_pictures_so_that_it_streams(tmp_path):
    render_video(tmp_path / "v.mp4", prompt="p", n_frames=3, **SMALL)
    data = (tmp_path / "v.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": -1}, {"n_frames": 0}])
def test_impossible_measures_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="at least 1"):
        render_video(tmp_path / "v.mp4", **{"prompt": "p", "n_frames": 1, **SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_fails_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    paint = Scene.picture
    monkeypatch.setattr(Scene, "picture", lambda self, index: paint(self, index) if index < 3 else 1 / 0)
    (tmp_path / "v.mp4").write_bytes(b"an older one")
    with pytest.raises(ZeroDivisionError):
        render_video(tmp_path / "v.mp4", prompt="p", n_frames=9, **SMALL)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("v.mp4", b"an older one")]


# The scene


@pytest.mark.parametrize("variant", range(4))
def test_something_moves_in_every_frame(tmp_path, variant):
    render_video(tmp_path / "v.mp4", prompt="A storm at sea", n_frames=30, variant=variant, **SMALL)
    assert min(difference(*pair) for pair in pairwise(decoded(tmp_path / "v.mp4"))) > 0.1


def test_the_same_request_gives_the_same_file(tmp_path):
    for name in ("one.mp4", "two.mp4"):
        render_video(tmp_path / name, prompt="A storm at sea", n_frames=6, captions=[(0.1, "Rain")], **SMALL)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_every_prompt_and_variant_has_its_own_look():
    prompts = ["A storm at sea", "A storm at sea!", "Two foxes in snow"]
    pictures = [Scene(prompt, (160, 96), variant=variant).picture(0) for prompt in prompts for variant in range(4)]
    # The upper half carries no prompt, so that what differs is the scene.
    upper = [picture.crop((0, 0, 120, 48)) for picture in pictures]
    apart = [difference(one, other) for index, one in enumerate(upper) for other in upper[:index]]
    assert min(apart) > 12


def test_a_thumbnail_is_the_first_picture(tmp_path):
    render_thumbnail(tmp_path / "t.png", prompt="A storm at sea", variant=2, **SMALL)
    with Image.open(tmp_path / "t.png") as thumbnail:
        assert thumbnail.format == "PNG"
        assert thumbnail.convert("RGB") == Scene("A storm at sea", (160, 96), variant=2).picture(0)


# The opening picture


def test_the_video_opens_with_the_picture_and_dissolves_into_the_scene(tmp_path):
    painting = ImageOps.colorize(Image.radial_gradient("L"), "gold", "navy")
    render_video(tmp_path / "v.mp4", prompt="The gold goes dark", n_frames=60, opening=image_bytes(painting), **SMALL)
    fitted = ImageOps.fit(painting, (160, 96))
    distance = [difference(frame, fitted) for frame in decoded(tmp_path / "v.mp4")]
    assert distance[0] < 4
    assert distance[0] < distance[10] < distance[25] < distance[50]
    assert distance[50] > 30


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_an_opening_picture_may_have_any_mode_and_shape(mode):
    stored = io.BytesIO()
    Image.new(mode, (7, 300), 1 if mode in "LP1" else 0).save(stored, "TIFF")
    assert Scene("p", (64, 48), opening=stored.getvalue()).picture(0).size == (64, 48)


@pytest.mark.parametrize("cut", [0, 20, 200])
def test_a_broken_opening_picture_is_told_plainly(tmp_path, cut):
    broken = image_bytes(Image.effect_noise((64, 64), 50))[:cut]
    with pytest.raises(ValueError, match=f"opening picture \\({cut} bytes\\) is no image"):
        render_video(tmp_path / "v.mp4", prompt="p", n_frames=1, opening=broken, **SMALL)
    assert list(tmp_path.iterdir()) == []


# Lettering


@pytest.mark.parametrize("size", [(854, 480), (853, 479), (720, 1080), (1920, 1080)])
def test_capitals_are_drawn_at_four_percent_of_the_height_or_more(size):
    width, height = size
    picture = Scene("HH", size).picture(0)
    left, top, right, foot = bright(picture, (0, height // 2, width, height))
    assert foot - top >= 0.04 * height
    assert left > 0 < right < width
    assert top + height // 2 + (foot - top) < height - 0.04 * height


@pytest.mark.parametrize("height", range(20, 2200, 97))
def test_layout_keeps_to_its_room(height):
    laid = lay_out(
        "Wide shot of a lighthouse in a storm. " * 9, width=height, height=height // 3, picture_height=height
    )
    assert laid.cap_height >= 0.04 * height
    assert laid.width <= height
    assert laid.height <= height // 3
    assert len(laid.lines) > 1
    assert laid.lines[-1].endswith("…")


def test_a_short_prompt_stays_whole_and_a_long_word_is_cut():
    room = {"width": 300, "height": 200, "picture_height": 480}
    assert lay_out("  A \n fox ", **room).lines == ("A fox",)
    word = "x" * 60
    assert "".join(lay_out(word, **room).lines) == word
    assert lay_out(" \n", **room) is None
    assert lay_out("fox", width=20, height=200, picture_height=480) is None


def test_chinese_stops_do_not_begin_a_line():
    lines = lettering._wrap("海边，" * 40, lettering.builtin_font(), 170, 99)
    assert len(lines) > 5
    assert not any(line.startswith("，") for line in lines)
    assert "".join(lines) == "海边，" * 40


@pytest.fixture
def no_system_fonts(monkeypatch):
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())


def test_a_notice_names_the_missing_font(no_system_fonts):
    text = " ".join(lay_out("一只猫 runs 在雨中", width=700, height=200, picture_height=480).lines)
    assert text == "runs (no CJK font on this machine: install fonts-noto-cjk)"


def test_the_notice_is_whole_on_a_portrait_too(no_system_fonts):
    portrait = {"width": 640, "height": 367, "picture_height": 1080}
    text = " ".join(lay_out("一只猫在雨中 runs", **portrait).lines)
    assert text == "runs (no CJK font on this machine: install fonts-noto-cjk)"


def test_chinese_is_drawn_or_the_notice_is():
    text = " ".join(lay_out("一只猫", width=700, height=200, picture_height=480).lines)
    assert ("一只猫" in text) != ("fonts-noto-cjk" in text)


def test_accents_and_dashes_are_simplified_where_no_font_has_them(no_system_fonts):
    assert lay_out("Café — ñandú × 2", width=700, height=200, picture_height=480).lines == ("Cafe - nandu x 2",)


def test_what_nothing_can_draw_is_named_and_never_crashes(no_system_fonts):
    text = " ".join(lay_out("A dog 🐶 \ud800\x00\u202e runs", width=900, height=200, picture_height=480).lines)
    assert text == "A dog runs (no font on this machine draws U+1F436)"
    for prompt in ("", "👩‍👩‍👧‍👦", "\ud800", "ا" * 50, "\U0010ffff", "a\u0301" * 90, "x" * 100_000):
        assert Scene(prompt, (120, 80), captions=[(0, prompt)]).picture(0).size == (120, 80)


# Captions


def test_captions_change_at_their_times(tmp_path):
    captions = [(0.5, "second"), (0.1, "first"), (0.8, "")]
    render_video(tmp_path / "v.mp4", prompt="Three moments", n_frames=30, captions=captions, width=320, height=180)
    below = (0, 140, 320, 180)
    widths = []
    for frame in decoded(tmp_path / "v.mp4"):
        paper = bright(frame, below)
        widths.append(paper[2] - paper[0] if paper else 0)
    assert [bool(width) for width in widths] == [3 <= index < 24 for index in range(30)]
    changes = [index for index, (one, other) in enumerate(pairwise(widths), 1) if abs(one - other) > 4]
    assert changes == [3, 15, 24]


@pytest.mark.parametrize("size", [(854, 480), (480, 854), (1000, 300), (64, 64), (300, 1000)])
def test_prompt_captions_and_tag_never_overlap_and_stay_inside(size):
    scene = Scene("A very long prompt indeed " * 40, size, captions=[(0, "A very long caption too " * 40)])
    panels = [*scene._tag, scene._sprites[-1], *scene._caption(scene._caption_at(0))]
    assert len(panels) >= 2
    boxes = []
    for panel in panels:
        (x, y), (width, height) = panel.place(0), panel.mask.size
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    for left, top, right, foot in boxes:
        assert left > 0 < top < foot < size[1] > 0 < right < size[0]
    ordered = sorted(boxes, key=lambda box: box[1])
    assert all(above[3] <= below[1] for above, below in pairwise(ordered))
