"""The sandbox's videos: exact in size and length, moving, told apart, legible."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise

import av
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageOps, ImageStat

from sora_tools.sandbox import lettering
from sora_tools.sandbox.lettering import lay_out
from sora_tools.sandbox.montage import Montage
from sora_tools.sandbox.render import render_spritesheet, render_thumbnail, render_video
from sora_tools.sandbox.scene import Scene
from sora_tools.sandbox.studio import Footage

SMALL = {"width": 160, "height": 96}


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def film(path, prompt, n_frames=6, **settings):
    render_video(path, prompt=prompt, n_frames=n_frames, **SMALL, **settings)
    return path


def first_picture(prompt, size, **settings):
    with Montage(Scene(prompt, size, **settings), size, 1) as montage:
        return montage.picture(0)


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
        (854, 480, 30),
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
    paint = Montage.picture
    monkeypatch.setattr(Montage, "picture", lambda self, index: paint(self, index) if index < 3 else 1 / 0)
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
    pictures = [first_picture(prompt, (160, 96), variant=variant) for prompt in prompts for variant in range(4)]
    # The upper half carries no prompt, so that what differs is the scene.
    upper = [picture.crop((0, 0, 120, 48)) for picture in pictures]
    apart = [difference(one, other) for index, one in enumerate(upper) for other in upper[:index]]
    assert min(apart) > 12


def test_a_thumbnail_is_the_first_picture_of_the_video(tmp_path):
    video = film(tmp_path / "v.mp4", "A storm at sea", variant=2)
    render_thumbnail(tmp_path / "t.png", video=video)
    with Image.open(tmp_path / "t.png") as thumbnail:
        assert thumbnail.format == "PNG"
        assert thumbnail.convert("RGB") == decoded(video)[0]
        assert difference(thumbnail.convert("RGB"), first_picture("A storm at sea", (160, 96), variant=2)) < 3


@pytest.mark.parametrize(("n_frames", "across", "down"), [(1, 1, 1), (3, 3, 1), (7, 5, 2), (45, 5, 4)])
def test_a_spritesheet_goes_from_the_first_picture_to_the_last(tmp_path, n_frames, across, down):
    video = film(tmp_path / "v.mp4", "A storm at sea", n_frames=n_frames)
    render_spritesheet(tmp_path / "s.jpg", video=video)
    count = min(n_frames, 20)
    with Image.open(tmp_path / "s.jpg") as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (across * 160, down * 96))
        frames = decoded(video)
        for number in range(count):
            row, column = divmod(number, 5)
            sprite = sheet.crop((column * 160, row * 96, column * 160 + 160, row * 96 + 96))
            index = (n_frames - 1) * number // max(1, count - 1)
            assert difference(sprite, frames[index]) < 4, number


# Pictures at their frames


def still(picture, frame_index=0):
    return Footage(material=image_bytes(picture), frame_index=frame_index)


PAINTING = ImageOps.colorize(Image.radial_gradient("L"), "gold", "navy")


def test_the_video_opens_with_the_picture_and_dissolves_into_the_scene(tmp_path):
    render_video(tmp_path / "v.mp4", prompt="The gold goes dark", n_frames=60, placed=[still(PAINTING)], **SMALL)
    fitted = ImageOps.fit(PAINTING, (160, 96))
    distance = [difference(frame, fitted) for frame in decoded(tmp_path / "v.mp4")]
    assert distance[0] < 4
    assert distance[0] < distance[10] < distance[25] < distance[50]
    assert distance[50] > 30


@pytest.mark.parametrize("place", [30, 59])
def test_a_picture_shows_at_its_frame_and_the_scene_before_and_after(tmp_path, place):
    film(tmp_path / "plain.mp4", "The gold goes dark", n_frames=120)
    film(tmp_path / "v.mp4", "The gold goes dark", n_frames=120, placed=[still(PAINTING, place)])
    fitted = ImageOps.fit(PAINTING, (160, 96))
    frames, plain = decoded(tmp_path / "v.mp4"), decoded(tmp_path / "plain.mp4")
    distance = [difference(frame, fitted) for frame in frames]
    assert distance[place] < 4
    assert distance.index(min(distance)) == place
    assert distance[place - 20] > distance[place - 10] > distance[place] < distance[place + 10] < distance[place + 20]
    assert max(difference(frames[index], plain[index]) for index in range(place + 46, 120)) < 3


def test_neighbours_show_alone_at_their_frames_however_near(tmp_path):
    red, green, blue = (Image.new("RGB", (160, 96), colour) for colour in ("red", "green", "blue"))
    placed = [still(blue, 19), still(red, 0), still(green, 1), still(PAINTING, 1)]
    frames = decoded(film(tmp_path / "v.mp4", "p", n_frames=20, placed=placed))
    for index, colour in ((0, red), (1, green), (19, blue)):
        assert difference(frames[index], colour) < 5, index


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_an_opening_picture_may_have_any_mode_and_shape(mode):
    stored = io.BytesIO()
    Image.new(mode, (7, 300), 1 if mode in "LP1" else 0).save(stored, "TIFF")
    placed = [Footage(material=stored.getvalue())]
    with Montage(Scene("p", (64, 48)), (64, 48), 1, placed=placed) as montage:
        assert montage.picture(0).size == (64, 48)


@pytest.mark.parametrize("cut", [0, 20, 200])
def test_a_broken_picture_is_told_plainly(tmp_path, cut):
    broken = image_bytes(Image.effect_noise((64, 64), 50))[:cut]
    with pytest.raises(ValueError, match=f"picture \\({cut} bytes\\) is no image"):
        render_video(tmp_path / "v.mp4", prompt="p", n_frames=1, placed=[Footage(material=broken)], **SMALL)
    assert list(tmp_path.iterdir()) == []


# Videos made of others


def apart(one, other):
    """How far two videos are apart, on average over their frames."""
    pairs = list(zip(decoded(one), decoded(other), strict=True))
    return sum(difference(*pair) for pair in pairs) / len(pairs)


def test_a_remix_lies_between_its_source_and_a_plain_video_nearer_as_it_is_told(tmp_path):
    source, plain = film(tmp_path / "s.mp4", "A storm at sea"), film(tmp_path / "p.mp4", "Two foxes in snow")
    remixes = [
        film(tmp_path / f"{amount}.mp4", "Two foxes in snow", base=Footage(material=source), amount=amount)
        for amount in (1, 4, 8)
    ]
    near, middle, far = (apart(remix, source) for remix in remixes)
    assert near < middle < far < apart(plain, source)
    from_plain = [apart(remix, plain) for remix in remixes]
    assert from_plain == sorted(from_plain, reverse=True)
    assert near < from_plain[0] / 2
    assert min(far, from_plain[2]) > 5, "at its farthest it is neither of the two"


def test_the_sources_motion_shows_and_its_last_picture_stays(tmp_path):
    source = tmp_path / "s.mp4"
    colours = [Image.new("RGB", (160, 96), colour) for colour in ("red", "green", "blue")]
    placed = [still(colour, index) for index, colour in enumerate(colours)]
    film(source, "p", n_frames=3, placed=placed)
    remix = decoded(film(tmp_path / "r.mp4", "q", n_frames=6, base=Footage(material=source)))
    stretch = decoded(film(tmp_path / "t.mp4", "q", n_frames=3, base=Footage(material=source, first=1, last=1)))
    for frame, colour in zip([*remix, *stretch], [*colours, *colours[2:] * 3, *colours[1:2] * 3], strict=True):
        near = [difference(frame.crop((0, 0, 100, 40)), each.crop((0, 0, 100, 40))) for each in colours]
        assert near.index(min(near)) == colours.index(colour)


@pytest.mark.parametrize("size", [(160, 96), (96, 160), (33, 17), (1, 1)])
def test_a_source_of_another_shape_is_fitted_to_cover(tmp_path, size):
    """A disc in the middle stays a disc in the middle."""
    disc = Image.new("RGB", (400, 300), "black")
    ImageDraw.Draw(disc).ellipse((130, 80, 270, 220), fill="white")
    source = tmp_path / "s.mp4"
    render_video(source, prompt="", width=400, height=300, n_frames=1, placed=[still(disc)])
    remix = tmp_path / "r.mp4"
    render_video(remix, prompt="", width=size[0], height=size[1], n_frames=1, blended=[Footage(material=source)])
    (frame,) = decoded(remix)
    assert frame.size == size
    if min(size) > 1:
        covered = ImageOps.fit(disc, size)
        upper = (0, 0, size[0], size[1] * 6 // 10)
        assert difference(frame.crop(upper), covered.crop(upper)) < 12


@pytest.mark.parametrize(("width", "height"), [(480, 270), (270, 480), (300, 300)])
def test_a_source_s_prompt_is_washed_out_so_that_only_the_new_one_is_read(tmp_path, width, height):
    size = {"width": width, "height": height, "n_frames": 1}
    source, below = tmp_path / "s.mp4", (0, height // 2, width, height)
    render_video(source, prompt="A storm at sea, seen from a small boat " * 6, **size)
    render_video(tmp_path / "v.mp4", prompt="", blended=[Footage(material=source)], **size)
    assert bright(decoded(source)[0], below)
    assert bright(decoded(tmp_path / "v.mp4")[0], below) is None


def test_a_blend_goes_from_the_first_to_the_last(tmp_path):
    names = ("A storm at sea", "Two foxes in snow", "A bowl of soup")
    sources = [film(tmp_path / f"{index}.mp4", name, n_frames=31) for index, name in enumerate(names)]
    for count in (2, 3):
        blended = [Footage(material=source) for source in sources[:count]]
        frames = decoded(film(tmp_path / "b.mp4", "From one to the next", n_frames=31, blended=blended))
        firsts = [decoded(source)[0] for source in sources]
        lasts = [decoded(source)[-1] for source in sources]
        assert difference(frames[0], firsts[0]) < difference(frames[0], firsts[1]) / 2
        final = decoded(sources[count - 1])[30 if count == 2 else 15]
        assert difference(frames[-1], final) < difference(frames[-1], lasts[0]) / 2
        middle = decoded(sources[0])[15] if count == 2 else decoded(sources[1])[15]
        assert difference(frames[15], middle) < difference(frames[0], firsts[1])


def test_a_blend_of_one_source_goes_into_the_scene(tmp_path):
    source = film(tmp_path / "s.mp4", "A storm at sea", n_frames=31)
    plain = decoded(film(tmp_path / "p.mp4", "Two foxes in snow", n_frames=31))
    blend = decoded(film(tmp_path / "b.mp4", "Two foxes in snow", n_frames=31, blended=[Footage(material=source)]))
    assert difference(blend[0], decoded(source)[0]) < difference(blend[0], plain[0]) / 2
    assert difference(blend[-1], plain[-1]) < 3


def test_a_stretch_is_played_where_it_is_placed(tmp_path):
    source = film(tmp_path / "s.mp4", "A storm at sea", n_frames=30)
    placed = [Footage(material=source, frame_index=50, first=10, last=19)]
    frames = decoded(film(tmp_path / "v.mp4", "Two foxes in snow", n_frames=120, placed=placed))
    played = decoded(source)[10:20]
    assert max(difference(*pair) for pair in zip(frames[50:60], played, strict=True)) < 3
    assert difference(frames[0], played[0]) > 20 < difference(frames[110], played[-1])


def test_a_montage_gives_the_same_bytes_twice(tmp_path):
    source = film(tmp_path / "s.mp4", "A storm at sea")
    made = {
        film(tmp_path / "v.mp4", "p", base=Footage(material=source), placed=[still(PAINTING, 3)]).read_bytes()
        for _ in range(2)
    }
    assert len(made) == 1


def test_a_long_source_takes_no_more_memory_than_a_short_one(tmp_path):
    """Pillow's pictures are told to tracemalloc by nobody, so the process itself is measured."""
    script = """if True:
        import resource, sys
        from pathlib import Path
        from sora_tools.sandbox.render import render_video
        from sora_tools.sandbox.studio import Footage
        source, n_frames = Path(sys.argv[1]), int(sys.argv[2])
        here = source.parent
        for n in (10, n_frames):
            render_video(here / "r.mp4", prompt="p", width=320, height=192, n_frames=n,
                         base=Footage(material=source))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    source = tmp_path / "s.mp4"
    render_video(source, prompt="A storm at sea", width=320, height=192, n_frames=400)
    told = subprocess.run([sys.executable, "-c", script, source, "400"], capture_output=True, text=True, check=True)
    short, long = (int(line) for line in told.stdout.split())
    frame = 320 * 192 * 3 / 1024
    assert long - short < 60 * frame, "400 frames were passed over, in room for 60"


# Lettering


@pytest.mark.parametrize("size", [(854, 480), (853, 479), (720, 1080), (1920, 1080)])
def test_capitals_are_drawn_at_four_percent_of_the_height_or_more(size):
    width, height = size
    picture = first_picture("HH", size)
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
        assert first_picture(prompt, (120, 80), captions=[(0, prompt)]).size == (120, 80)


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
    panels = [*scene._tag, *scene._prompt, *scene._caption(scene._caption_at(0))]
    assert len(panels) >= 2
    boxes = []
    for panel in panels:
        (x, y), (width, height) = panel.place(0), panel.mask.size
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    for left, top, right, foot in boxes:
        assert left > 0 < top < foot < size[1] > 0 < right < size[0]
    ordered = sorted(boxes, key=lambda box: box[1])
    assert all(above[3] <= below[1] for above, below in pairwise(ordered))
