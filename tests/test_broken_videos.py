"""What is no video, or no longer one: every function names the file and what is wrong, and writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import av
import pytest
from clips import B_FRAMES, NO_B_FRAMES, OPEN_GOP, number_of, numbered, without_its_start, write_clip
from PIL import Image

from sora_tools.media import concatenate, contact_sheet, frame, frames, poster, probe

LOOKS = {
    "probe": probe,
    "frame": frame,
    "last frame": lambda video: frame(video, -1),
    "frames": lambda video: frames(video, 3),
    "poster": lambda video: poster(video, video.with_suffix(".png")),
    "contact_sheet": lambda video: contact_sheet(video, video.with_suffix(".png")),
    "concatenate": lambda video: concatenate([video], video.with_suffix(".film.mp4")),
}
STRICT = {name: look for name, look in LOOKS.items() if name in {"last frame", "frames", "poster", "concatenate"}}


@pytest.fixture(params=LOOKS.values(), ids=LOOKS)
def look(request):
    return request.param


@pytest.fixture(params=STRICT.values(), ids=STRICT)
def strict(request):
    return request.param


@pytest.fixture
def video(tmp_path):
    return tmp_path / "v.mp4"


def names(video):
    return sorted(path.name for path in video.parent.iterdir())


def middle(data):
    start = data.index(b"mdat") + 4
    return start + int.from_bytes(data[start - 8 : start - 4], "big") // 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><body>not ready</body></html>" * 40,
        b'{"error": {"message": "gone"}}',
        b"\x00\x00\x00\x20ftypisom",
        bytes(100_000),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
    ids=["empty", "html", "json", "head alone", "zeros", "image"],
)
def test_a_file_that_is_no_video_is_named(video, data, look):
    video.write_bytes(data)
    with pytest.raises(ValueError, match=r"v\.mp4: (not a video that can be read|no video in this file)"):
        look(video)
    assert names(video) == ["v.mp4"]


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_a_picture_is_no_video_whatever_its_name(video, look, kind):
    numbered(5).save(video, format=kind)
    with pytest.raises(ValueError, match=r"v\.mp4: not a video that can be read"):
        look(video)


def test_sound_alone_is_no_video(video, look):
    with av.open(str(video), "w") as container:
        stream = container.add_stream("aac", 44100)
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.sample_rate = 44100
        silence.planes[0].update(bytes(silence.planes[0].buffer_size))
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"v\.mp4: no video in this file$"):
        look(video)


def test_a_video_of_no_frames_is_no_video(video, look):
    with av.open(str(video), "w", format="matroska") as container:
        stream = container.add_stream("libx264", 30)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        container.start_encoding()
    with pytest.raises(
        ValueError, match=r"v\.mp4: (a video without a single frame|not a video|damaged after 0 frames)"
    ):
        look(video)


def test_a_stream_that_never_says_its_size_is_no_video(tmp_path, look):
    whole = write_clip(tmp_path / "w.mp4", range(40), options=OPEN_GOP)
    with pytest.raises(ValueError, match=r"v\.ts: (its size cannot be read|damaged after 0 frames)"):
        look(without_its_start(whole, tmp_path / "v.ts"))


def test_an_index_that_was_cut_off_leaves_nothing_to_read(video, look):
    data = write_clip(video, range(40)).read_bytes()
    video.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"v\.mp4: (not a video that can be read|no video in this file)"):
        look(video)


@pytest.mark.parametrize("options", [B_FRAMES, NO_B_FRAMES], ids=["b frames", "in order"])
@pytest.mark.parametrize("beep", [None, 0.2], ids=["silent", "with sound"])
def test_a_download_that_was_cut_short_shows_what_is_there(video, strict, options, beep):
    data = write_clip(video, range(60), options=options, beep=beep, front=True).read_bytes()
    video.write_bytes(data[: middle(data)])
    with pytest.raises(
        ValueError, match=r"v\.mp4: damaged after \d+ frames? \(the file ends early\); get the file again"
    ):
        strict(video)
    with pytest.raises(ValueError, match="damaged after") as caught:
        frame(video, 59)
    there = int(str(caught.value).partition("damaged after ")[2].split()[0])
    assert 1 < there < 60
    assert [number_of(frame(video, index)) for index in range(there)] == list(range(there))
    with Image.open(contact_sheet(video, video.with_suffix(".png"))) as sheet:
        assert sheet.format == "PNG"


@pytest.mark.parametrize("options", [B_FRAMES, NO_B_FRAMES], ids=["b frames", "in order"])
def test_a_download_that_was_cut_between_two_packets_is_cut_short_too(video, strict, options):
    """There no packet is damaged: only the index tells that there is more."""
    data = write_clip(video, range(60), options=options, front=True).read_bytes()
    with av.open(str(video)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    for end in (ends[20], ends[-2]):
        video.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"damaged after \d+ frames? \(the file ends early\)"):
            strict(video)


@pytest.mark.parametrize("length", [1, 20, 400])
@pytest.mark.parametrize("byte", [0, 255], ids=["zeros", "ones"])
def test_damage_in_the_middle_is_never_passed_over(video, strict, byte, length):
    data = bytearray(write_clip(video, range(60), size=(320, 180), options=NO_B_FRAMES).read_bytes())
    place = middle(data)
    with av.open(str(video)) as container:
        place = next(packet.pos for packet in container.demux(video=0) if packet.pts and packet.pos > place)
    data[place : place + max(8, length)] = bytes([byte]) * max(8, length)
    video.write_bytes(data)
    with pytest.raises(ValueError, match=r"v\.mp4: damaged after \d+ frames?"):
        strict(video)
    assert number_of(frame(video)) == 0
    assert names(video) == ["v.mp4"]
    assert contact_sheet(video, video.with_suffix(".png")).exists()


def test_pictures_that_are_nothing_but_zeros_are_told_apart_from_their_index(video):
    data = bytearray(write_clip(video, range(12)).read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start : start + size] = bytes(size)
    video.write_bytes(data)
    for name, look in LOOKS.items():
        if name != "probe":
            with pytest.raises(ValueError, match=r"v\.mp4: (not a video that can be read|damaged after 0 frames)"):
                look(video)
    assert names(video) == ["v.mp4"]


# What is not there, or not ours


def test_a_missing_file_is_a_missing_file(video, look):
    with pytest.raises(FileNotFoundError, match=r"v\.mp4"):
        look(video)


def test_a_folder_is_a_folder(video, look):
    video.mkdir()
    with pytest.raises(IsADirectoryError, match=r"v\.mp4"):
        look(video)


@pytest.mark.timeout(30)
def test_what_has_no_end_is_not_opened(video, look):
    os.mkfifo(video)
    with pytest.raises(ValueError, match=r"v\.mp4: not a regular file but a pipe"):
        look(video)
    video.unlink()
    video.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"v\.mp4: not a regular file but a pipe"):
        look(video)
    assert names(video) == ["v.mp4"]


def test_a_file_that_may_not_be_read_is_a_matter_of_permission(tmp_path):
    """In a process of its own, which gives up the rights of root where it has them."""
    video = write_clip(tmp_path / "v.mp4", range(3))
    video.chmod(0)
    code = f"""if True:
        import os
        from sora_tools.media import probe
        here = os.open({str(tmp_path)!r}, os.O_RDONLY)
        os.fchdir(here)
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            probe("v.mp4")
        except PermissionError as error:
            print(error)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert "Permission denied: 'v.mp4'" in done.stdout


@pytest.fixture
def web():
    asked = []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Host)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_playlist_in_disguise_opens_no_other_file_and_no_address(tmp_path, video, web, look):
    address, asked = web
    real = write_clip(tmp_path / "real.mp4", range(3))
    for other in (f"file:{real}", str(real), f"{address}/segment.ts"):
        for text in (
            f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile '{other}'\n",
            f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{other}</BaseURL></MPD>',
        ):
            video.write_text(text)
            with pytest.raises(ValueError, match=r"v\.mp4: (not a video|no video)"):
                look(video)
    assert asked == []
