"""Contact sheets and measures, on small videos whose every frame can be told from its colour."""

from __future__ import annotations

import importlib
import sys

import av
import pytest
from PIL import Image

from sora_tools.media import VideoInfo, contact_sheet, probe

PAPER = (17, 18, 22)


def write_video(path, n_frames, *, size=(64, 36), codec="libx264", rate=10):
    """A video whose frame ``index`` is all of one grey: 5 * index."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate, options={"crf": "10", "g": "12"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(n_frames):
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (5 * index,) * 3))
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cells(sheet, columns, rows, shape, width=1280):
    """The grey in the middle of each cell of a sheet, row by row; ``None`` where there is only paper."""
    across = (width - 12 * (columns + 1)) // columns
    down = round(across * shape[1] / shape[0])
    found = []
    for row in range(rows):
        for column in range(columns):
            place = 12 + column * (across + 12) + across // 2, 34 + row * (down + 26) + down // 2
            colour = sheet.getpixel(place)
            found.append(None if colour == PAPER else colour[0])
    return found


# probe


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.webm", "libvpx"), ("v.mov", "mpeg4")])
def test_probe_measures_the_usual_containers(tmp_path, name, codec):
    info = probe(write_video(tmp_path / name, 15, codec=codec))
    assert (info.width, info.height, info.n_frames, info.fps) == (64, 36, 15, 10)
    assert info.duration == pytest.approx(1.5)
    assert info.codec in {"h264", "vp8", "mpeg4"}


def test_probe_of_a_single_frame(tmp_path):
    assert probe(write_video(tmp_path / "v.mp4", 1)) == VideoInfo(64, 36, 1, 10.0, 0.1, "h264")


def test_a_file_cut_short_is_measured_as_it_is(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", 30, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(40):
            frame = av.VideoFrame.from_image(Image.effect_noise((64, 64), 90).convert("RGB"))
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].frames == 40  # what the header promises
    info = probe(tmp_path / "cut.mp4")
    assert 10 < info.n_frames < 25
    assert info.duration == pytest.approx(info.n_frames / 30)
    assert contact_sheet(tmp_path / "cut.mp4", tmp_path / "cut.png").exists()


# contact_sheet


def test_frames_are_evenly_spaced_from_the_first_to_the_last(tmp_path):
    path = contact_sheet(write_video(tmp_path / "v.mp4", 45), tmp_path / "sheet.png")
    assert path == tmp_path / "sheet.png"
    with Image.open(path) as sheet:
        assert (sheet.format, sheet.width) == ("PNG", 1280)
        greys = cells(sheet, 4, 3, (64, 36))
    assert greys == [pytest.approx(5 * index, abs=4) for index in range(0, 45, 4)]


def test_columns_rows_and_width_are_settings(tmp_path):
    video = write_video(tmp_path / "v.mp4", 9)
    with Image.open(contact_sheet(str(video), str(tmp_path / "s.png"), columns=3, rows=1, width=600)) as sheet:
        assert sheet.size == (600, 34 + 26 + 12 + round(184 * 36 / 64))
        assert cells(sheet, 3, 1, (64, 36), 600) == [pytest.approx(grey, abs=4) for grey in (0, 20, 40)]


def test_many_columns_stay_as_many(tmp_path):
    video = write_video(tmp_path / "v.mp4", 45)
    with Image.open(contact_sheet(video, tmp_path / "s.png", columns=40, rows=2, width=4000)) as sheet:
        greys = cells(sheet, 40, 2, (64, 36), 4000)
    assert greys == [pytest.approx(5 * index, abs=4) for index in range(45)] + [None] * 35


@pytest.mark.parametrize(("n_frames", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 4, 2)])
def test_a_short_video_has_fewer_cells(tmp_path, n_frames, columns, rows):
    with Image.open(contact_sheet(write_video(tmp_path / "v.mp4", n_frames), tmp_path / "s.png")) as sheet:
        greys = cells(sheet, columns, rows, (64, 36))
    assert greys[:n_frames] == [pytest.approx(5 * index, abs=4) for index in range(n_frames)]
    assert greys[n_frames:] == [None] * (columns * rows - n_frames)


@pytest.mark.parametrize("size", [(2, 400), (400, 2), (90, 160)])
def test_a_sheet_of_an_odd_shape_stays_of_a_sensible_size(tmp_path, size):
    with Image.open(contact_sheet(write_video(tmp_path / "v.mp4", 12, size=size), tmp_path / "s.png")) as sheet:
        assert sheet.width == 1280
        assert sheet.height < 2200


def test_every_frame_has_its_time_below(tmp_path):
    with Image.open(contact_sheet(write_video(tmp_path / "v.mp4", 45), tmp_path / "s.png")) as sheet:
        labels = []
        for place in range(12):
            row, column = divmod(place, 4)
            left, top = 12 + column * 317, 34 + row * (172 + 26) + 172
            labels.append(sheet.crop((left, top, left + 305, top + 26)).convert("L").point(lambda level: level > 90))
    assert all(label.getbbox() for label in labels)
    assert len({label.tobytes() for label in labels}) == 12


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"rows": 0}, {"width": 399}])
def test_impossible_sheets_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="at least 1, 1 and 100 pixels"):
        contact_sheet(write_video(tmp_path / "v.mp4", 2), tmp_path / "s.png", **wrong)


# Names and extras


def test_names_with_colons_percents_and_spaces_are_only_names(tmp_path):
    odd = tmp_path / "http: 100%03d 视频.mp4"
    write_video(tmp_path / "v.mp4", 3).rename(odd)
    assert probe(odd).n_frames == 3
    sheet = contact_sheet(odd, tmp_path / "a b.anything")
    with Image.open(sheet) as image:
        assert image.format == "PNG"


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "sora_tools.media")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'sora-tools\[media\]'"):
        importlib.import_module("sora_tools.media")
