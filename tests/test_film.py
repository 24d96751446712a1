"""Films out of clips: every frame once, each as long as in its clip, the sound in step, and nothing half done."""

from __future__ import annotations

import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import av
import pytest
from clips import (
    B_FRAMES,
    HEVC,
    NO_B_FRAMES,
    OPEN_GOP,
    SIZE,
    beeps,
    decoded,
    difference,
    from_its_second_key_frame,
    trimmed,
    write_clip,
)
from PIL import Image

from sora_tools.media import concatenate, frame, probe


def clip_of(directory, name, start=0, **settings):
    return write_clip(directory / name, range(start, start + 30), **settings)


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def assert_joined(film, clips, *, off_by=1):
    """The film shows what its clips show, when they show it, to the millisecond."""
    shown = [decoded(clip) for clip in clips]
    lasting = [probe(clip).duration for clip in clips]
    starts = [0.0, *accumulate(lasting)]
    numbers, times = decoded(film)
    assert numbers == [number for clip, _ in shown for number in clip]
    wanted = [round(1000 * start) + time for start, (_, clip) in zip(starts, shown, strict=False) for time in clip]
    assert max(abs(one - other) for one, other in zip(times, wanted, strict=True)) <= off_by
    info = probe(film)
    assert (info.n_frames, info.codec) == (sum(probe(clip).n_frames for clip in clips), "h264")
    assert info.duration == pytest.approx(starts[-1], abs=0.001)


# Pictures


@pytest.mark.parametrize("options", [B_FRAMES, OPEN_GOP, NO_B_FRAMES], ids=["b frames", "open gop", "in order"])
def test_clips_of_one_encoder_are_copied_to_the_byte(tmp_path, options):
    one, other = clip_of(tmp_path, "1.mp4", options=options), clip_of(tmp_path, "2.mp4", 100, options=options)
    clips = [one, other, one]
    film = concatenate(clips, tmp_path / "film.mp4")
    assert film == tmp_path / "film.mp4"
    assert_joined(film, clips)
    assert packets(film) == [packet for clip in clips for packet in packets(clip)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("in_order.mp4", {"options": NO_B_FRAMES}),
        ("open_gop.mp4", {"options": OPEN_GOP}),
        ("slower.mp4", {"rate": 24}),
        ("late.mp4", {"times": [5000 + 33 * index for index in range(30)]}),
        ("uneven.mp4", {"times": [0, *(500 + 7 * index * index for index in range(29))]}),
        ("hevc.mp4", {"codec": "libx265", "options": HEVC}),
        ("v.ts", {}),
        ("v.mkv", {}),
        ("v.webm", {"codec": "libvpx", "options": {}}),
        ("v.avi", {"codec": "mpeg4", "options": {}}),
    ],
)
def test_other_clips_are_encoded_anew_and_keep_their_times(tmp_path, name, settings):
    first, other = clip_of(tmp_path, "first.mp4"), clip_of(tmp_path, name, 200, **settings)
    for clips in ([first, other, first], [other, first], [other, other]):
        assert_joined(concatenate(clips, tmp_path / "film.mp4"), clips, off_by=2)


def test_frames_that_an_edit_list_cuts_off_stay_off(tmp_path):
    one = clip_of(tmp_path, "1.mp4")
    short = trimmed(one, tmp_path / "short.mp4", 5)
    film = concatenate([one, short, one], tmp_path / "film.mp4")
    assert decoded(film)[0] == [*range(30), *range(5, 30), *range(30)]
    assert_joined(film, [one, short, one])


def test_a_clip_whose_first_frame_lets_others_look_back_is_not_copied(tmp_path):
    """Alone it plays. Behind another clip, its frames would find that one's."""
    whole = clip_of(tmp_path, "1.mp4", options=OPEN_GOP)
    cut = from_its_second_key_frame(whole, tmp_path / "2.mp4")
    assert decoded(cut)[0] == list(range(8, 30))
    for clips in ([whole, cut], [cut, cut, whole]):
        assert_joined(concatenate(clips, tmp_path / "film.mp4"), clips)


@pytest.mark.parametrize("settings", [{}, {"size": (97, 55), "pix": "yuv444p"}], ids=["even", "odd"])
def test_a_single_clip_and_clips_of_a_single_frame_are_films_too(tmp_path, settings):
    one = clip_of(tmp_path, "1.mp4", **settings)
    moment = write_clip(tmp_path / "moment.mp4", [7], **settings)
    for clips in ([one], [moment], [moment] * 3, [moment, one, moment]):
        assert_joined(concatenate(clips, tmp_path / "film.mp4"), clips)


@pytest.mark.parametrize("names", [["1.mp4", "2.mp4"], ["1.mp4", "slower.mp4"]], ids=["copied", "encoded"])
def test_the_index_stands_in_front(tmp_path, names):
    clips = [clip_of(tmp_path, name, rate=24 if name == "slower.mp4" else 30) for name in names]
    data = concatenate(clips, tmp_path / "film.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_colours_stay_when_clips_write_them_down_differently(tmp_path):
    clips = []
    for name, space, pix in (("a", 6, "yuv420p"), ("b", 1, "yuv420p"), ("c", 2, "yuv420p"), ("d", 6, "yuvj420p")):
        clips.append(tmp_path / f"{name}.mp4")
        with av.open(str(clips[-1]), "w") as container:
            stream = container.add_stream("libx264", 30, options={"crf": "5"})
            stream.width, stream.height, stream.pix_fmt = *SIZE, pix
            stream.codec_context.colorspace = space
            red = av.VideoFrame.from_image(Image.new("RGB", SIZE, (200, 30, 40)))
            container.mux(stream.encode(red.reformat(format=pix, dst_colorspace=space)))
            container.mux(stream.encode())
    for order in (clips, clips[::-1], clips[2:] + clips[:2]):
        film = concatenate(order, tmp_path / "film.mp4")
        for index in range(4):
            assert difference(frame(film, index), Image.new("RGB", SIZE, (200, 30, 40))) < 4, (order, index)


# Sound


@pytest.mark.parametrize("rate", [30, 24], ids=["copied", "encoded"])
def test_sound_stays_in_step_and_silence_stands_for_none(tmp_path, rate):
    early, late = clip_of(tmp_path, "1.mp4", beep=0.2), clip_of(tmp_path, "2.mp4", 100, beep=0.7)
    silent = clip_of(tmp_path, "3.mp4", 200, rate=rate)
    clips = [early, silent, late, late, silent, early]
    film = concatenate(clips, tmp_path / "film.mp4")
    assert_joined(film, clips)
    gap = 30 / rate
    assert beeps(film) == pytest.approx([0.2, 1 + gap + 0.7, 2 + gap + 0.7, 3 + 2 * gap + 0.2], abs=0.005)
    with av.open(str(film)) as container:
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.rate, sound.channels) == ("aac", 48000, 2)
        assert float(sound.duration * sound.time_base) == pytest.approx(4 + 2 * gap, abs=0.03)


def test_forty_clips_do_not_drift(tmp_path):
    """Each clip's sound is some milliseconds longer than its pictures."""
    clip = write_clip(tmp_path / "1.mp4", range(10), beep=0.1)
    film = concatenate([clip] * 40, tmp_path / "film.mp4")
    assert beeps(film) == pytest.approx([0.1 + place / 3 for place in range(40)], abs=0.005)


def test_pictures_and_sound_lie_beside_each_other_in_the_file(tmp_path):
    clips = [clip_of(tmp_path, "1.mp4", beep=0.2), *[clip_of(tmp_path, "2.mp4", 30)] * 3]
    with av.open(str(concatenate(clips, tmp_path / "film.mp4"))) as container:
        latest = {"video": 0.0, "audio": 0.0}
        for packet in container.demux():
            if packet.size:
                latest[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(latest["video"] - latest["audio"]) < 1.1


def test_sound_that_needs_no_converting_is_played_to_its_end(tmp_path):
    with av.open(str(tmp_path / "1.mov"), "w") as container:
        stream = container.add_stream("libx264", 30)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        sound = container.add_stream("pcm_s16le", 48000, layout="stereo")
        for index in range(30):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", SIZE))))
            heard = av.AudioFrame("s16", "stereo", 1600)
            heard.planes[0].update((b"\x00\x40" if index == 15 else bytes(2)) * 3200)
            heard.sample_rate, heard.pts = 48000, 1600 * index
            container.mux(sound.encode(heard))
        container.mux([*stream.encode(), *sound.encode()])
    film = concatenate([tmp_path / "1.mov"] * 2, tmp_path / "film.mp4")
    assert beeps(film) == pytest.approx([0.5, 1.5], abs=0.005)


def test_silent_clips_make_a_film_without_a_sound_track(tmp_path):
    with av.open(str(concatenate([clip_of(tmp_path, "1.mp4")], tmp_path / "film.mp4"))) as container:
        assert [stream.type for stream in container.streams] == ["video"]


# What cannot be joined


@pytest.mark.parametrize("nothing", [[], (), "clip.mp4", Path("clip.mp4")])
def test_a_film_is_made_of_a_list_of_clips(tmp_path, nothing):
    with pytest.raises(ValueError, match="a list of 1 path or more"):
        concatenate(nothing, tmp_path / "film.mp4")


def test_clips_of_two_sizes_are_both_named(tmp_path):
    clips = [clip_of(tmp_path, "1.mp4"), clip_of(tmp_path, "2.mp4"), clip_of(tmp_path, "3.mp4", size=(64, 36))]
    with pytest.raises(ValueError, match=r"1\.mp4 is 96x54 and .*3\.mp4 is 64x36"):
        concatenate(clips, tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


def test_pictures_without_times_cannot_be_joined(tmp_path):
    with pytest.raises(ValueError, match=r"raw\.h264: its frames carry no times"):
        concatenate([clip_of(tmp_path, "raw.h264")], tmp_path / "film.mp4")


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_a_damaged_clip_is_named_before_anything_is_written(tmp_path, damage):
    good, bad = clip_of(tmp_path, "good.mp4"), clip_of(tmp_path, "bad.mp4", front=True)
    data = bad.read_bytes()
    middle = (data.index(b"mdat") + len(data)) // 2
    bad.write_bytes(data[:middle] if damage == "cut" else data[:middle] + bytes(60) + data[middle + 60 :])
    (tmp_path / "film.mp4").write_bytes(b"the film before")
    with pytest.raises(ValueError, match=r"bad\.mp4: damaged after \d+ frames?"):
        concatenate([good, bad], tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == b"the film before"
    assert names_in(tmp_path) == ["bad.mp4", "film.mp4", "good.mp4"]


@pytest.mark.parametrize("rate", [30, 24], ids=["copied", "encoded"])
def test_a_film_may_take_the_place_of_one_of_its_clips(tmp_path, rate):
    one, other = clip_of(tmp_path, "1.mp4"), clip_of(tmp_path, "2.mp4", 100, rate=rate)
    for _ in range(2):
        concatenate([one, other], one)
    assert decoded(one)[0] == [*range(30), *range(100, 130), *range(100, 130)]
    assert names_in(tmp_path) == ["1.mp4", "2.mp4"]


def test_a_film_that_cannot_be_written_is_named(tmp_path):
    clip = clip_of(tmp_path, "1.mp4")
    with pytest.raises(FileNotFoundError, match=r"nowhere/film\.mp4"):
        concatenate([clip], tmp_path / "nowhere" / "film.mp4")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        concatenate([clip], tmp_path / "folder")
    assert names_in(tmp_path) == ["1.mp4", "folder"]


def test_a_full_disk_is_no_fault_of_the_clips(tmp_path):
    clip = clip_of(tmp_path, "1.mp4", size=(320, 180), options={"crf": "1"})
    code = f"""if True:
        import resource, signal
        from sora_tools.media import concatenate
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            concatenate([{str(clip)!r}] * 9, {str(tmp_path / "film.mp4")!r})
        except OSError as error:
            print(error)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert "the film cannot be written (File too large)" in done.stdout
    assert str(tmp_path / "film.mp4") in done.stdout
    assert names_in(tmp_path) == ["1.mp4"]
