"""Data sets of others made into annotations, and back: every kind as its makers write it, in small."""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from click.testing import CliRunner, Result

from evaluator.annotation.annotation import read_annotation
from evaluator.audio.loading import check_audio
from evaluator.cli import main

TEXT = 'Grüße,  "3" 세 시\u2028 <COMMA> naïve '
LABELS = {"asr": False, "audiocaption_v2": False}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def rows_of(source: Path, *options: object) -> list[dict[str, Any]]:
    """Convert, read what came out as the evaluator does, and give its rows."""
    target = source.parent / "out.json"
    result = run(source, "--to", target, *options)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(target.read_text(encoding="utf-8"))["annotation"]
    mode = "valid_aac" if rows[0]["task"] == "audiocaption_v2" else "valid_asr"
    read = read_annotation(target, prefix="", mode=mode, known_tasks=LABELS)  # type: ignore[arg-type]
    assert [each.id for each in read.without_problems()] == [row["testset_id"] for row in rows]
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def wave(seconds: float = 1.0, file_format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(round(seconds * 16000), 0.1), 16000, format=file_format)
    return file.getvalue()


def make_tar(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_nemo_manifests(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "manifest.json",
        [
            {"audio_filepath": "a b.wav", "duration": 2.5, "text": TEXT, "lang": "de"},
            {"audio_filepath": "a b.wav", "offset": 0.1, "duration": 0.2, "text": "x"},
            {"audio_filepath": "a b.wav", "offset": 7, "text": "y", "id": "named"},
        ],
    )
    assert rows_of(source) == [
        {"testset_id": "a b.wav", "path": "a b.wav", "task": "asr", "text": TEXT, "duration": 2.5, "lang": "de"},
        {"testset_id": "a b.wav#t=0.1,0.3", "path": "a b.wav", "start": 0.1, "end": 0.3, "task": "asr", "text": "x"},
        {"testset_id": "named", "path": "a b.wav", "start": 7.0, "task": "asr", "text": "y"},
    ]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json"])
def test_json_lines_of_other_names(tmp_path: Path, name: str) -> None:
    source = write_lines(tmp_path / name, [{"key": "u1", "wav": "a.wav", "sentence": TEXT, "start": 1, "end": "2.5"}])
    assert rows_of(source) == [
        {"testset_id": "u1", "path": "a.wav", "start": 1.0, "end": 2.5, "task": "asr", "text": TEXT}
    ]


def test_every_problem_of_a_manifest_is_named(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "manifest.json",
        [
            {"audio_filepath": "a.wav", "text": 3},
            {"text": "x"},
            {"audio_filepath": "a.wav", "offset": "late", "duration": 1, "text": "x"},
            {"audio_filepath": "a.wav", "offset": 2, "duration": 0, "text": "x"},
            {"audio_filepath": "a.wav", "text": "x", "channel": 1},
        ],
    )
    with source.open("ab") as file:
        file.write(b'{"audio_filepath": \n["x"]\n"\xff"\n')
    result = run(source, "--to", tmp_path / "out.json", "--from", "manifest")
    assert result.exit_code == 3
    for expected in (
        f"{source} has 8 problems",
        f"{source}:1: text: expected a text or a list of texts, found 3",
        f"{source}:2: audio_filepath: expected the path of an audio file, found None",
        f"{source}:3: offset: expected seconds from 0, found 'late'",
        f"{source}:4: duration: the part ends at 2 s, before its beginning at 2 s",
        f"{source}:5: channel: 1 would change what is heard",
        f"{source}:6: not valid JSON",
        f"{source}:7: expected an object, found ['x']",
        f"{source}:8: not UTF-8",
    ):
        assert expected in result.output
    assert not (tmp_path / "out.json").exists()


def make_kaldi(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_kaldi_folders(tmp_path: Path) -> None:
    plain = make_kaldi(tmp_path / "plain", {"wav.scp": "u1 /d/my clip.wav\nu2 b.wav\n", "text": f"u1 {TEXT}\nu2 \n"})
    assert rows_of(plain) == [
        {"testset_id": "u1", "path": "/d/my clip.wav", "task": "asr", "text": TEXT},
        {"testset_id": "u2", "path": "b.wav", "task": "asr", "text": ""},
    ]
    cut = make_kaldi(
        tmp_path / "cut",
        {
            "wav.scp": "r1 talk.flac\n",
            "segments": "u1 r1 0.5 2.25\nu2 r1 3 -1\n",
            "text": "u1 one\nu2 two\n",
            "utt2spk": "u1 s1\nu2 u2\n",
        },
    )
    assert rows_of(cut) == [
        {
            "testset_id": "u1",
            "path": "talk.flac",
            "start": 0.5,
            "end": 2.25,
            "task": "asr",
            "text": "one",
            "speaker": "s1",
        },
        {"testset_id": "u2", "path": "talk.flac", "start": 3.0, "task": "asr", "text": "two"},
    ]


def test_commands_in_kaldi_folders_are_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    folder = make_kaldi(
        tmp_path / "data",
        {"wav.scp": f"u1 touch {trap} |\nu2 sox a.flac -t wav - |\nu3 raw.ark:17\nu4\n", "text": "u9 x\n"},
    )
    result = run(folder, "--to", tmp_path / "out.json")
    assert result.exit_code == 3
    assert f"{folder}/wav.scp:1: 'u1': the entry is a command, which is not run" in result.output
    assert f"{folder}/wav.scp:2: 'u2': the entry is a command" in result.output
    assert f"{folder}/wav.scp:3: 'u3': 'raw.ark:17' lies in an archive of Kaldi" in result.output
    assert f'{folder}/wav.scp:4: expected "recording path"' in result.output
    assert not trap.exists()


def test_librispeech_trees(tmp_path: Path) -> None:
    chapter = tmp_path / "tree" / "dev" / "84" / "121"
    chapter.mkdir(parents=True)
    for number in (0, 1):
        (chapter / f"84-121-{number:04d}.flac").write_bytes(wave(1, "FLAC"))
    (chapter / "84-121.trans.txt").write_text("84-121-0000 GO DO YOU HEAR\n84-121-0001 BUT  IN\n")
    assert rows_of(tmp_path / "tree")[1] == {
        "testset_id": "84-121-0001", "path": "dev/84/121/84-121-0001.flac", "task": "asr", "text": "BUT  IN",
        "speaker": "84",
    }  # fmt: skip
    (chapter / "84-121-0001.flac").unlink()
    result = run(tmp_path / "tree", "--to", tmp_path / "out.json")
    assert "84-121.trans.txt:2: '84-121-0001': there is no 84-121-0001.flac beside the transcript" in result.output


def test_caption_tables(tmp_path: Path) -> None:
    clotho = tmp_path / "clotho.csv"
    with clotho.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *(f"caption_{number}" for number in range(1, 6))])
        writer.writerow(["Rain, on a roof.wav", "It rains.", 'Rain "falls", hard.', "a", "b", "c"])
    assert rows_of(clotho) == [
        {
            "testset_id": "Rain, on a roof.wav", "path": "Rain, on a roof.wav", "task": "audiocaption_v2",
            "text": ["It rains.", 'Rain "falls", hard.', "a", "b", "c"],
        }
    ]  # fmt: skip
    caps = tmp_path / "caps.csv"
    caps.write_text(
        "audiocap_id,youtube_id,start_time,caption\n1,-abc,30,A dog barks\n2,-abc,30,Barking\n3,x_y,0,Rain\n"
    )
    assert rows_of(caps, "--suffix", ".flac") == [
        {
            "testset_id": "-abc", "path": "-abc.flac", "task": "audiocaption_v2", "text": ["A dog barks", "Barking"],
            "youtube_start_time": "30",
        },
        {"testset_id": "x_y", "path": "x_y.flac", "task": "audiocaption_v2", "text": "Rain", "youtube_start_time": "0"},
    ]  # fmt: skip
    wavcaps = tmp_path / "wavcaps.json"
    data = [{"id": "180913", "caption": "Wind blows.", "duration": 63.1, "author": "x", "href": "/p"}, {"id": "Yx.wav"}]
    wavcaps.write_text(json.dumps({"num_captions_per_audio": 1, "data": data}))
    assert "data[1]: expected id and caption" in run(wavcaps, "--to", tmp_path / "o.json").output
    data[1]["caption"] = "Rain."
    wavcaps.write_text(json.dumps({"num_captions_per_audio": 1, "data": data}, indent=1))
    assert [row["path"] for row in rows_of(wavcaps)] == ["180913.flac", "Yx.flac"]


def test_gigaspeech(tmp_path: Path) -> None:
    segments = [
        {
            "sid": "P1_S1",
            "speaker": "N/A",
            "begin_time": 159.0,
            "end_time": 161.85,
            "text_tn": TEXT,
            "subsets": ["{XS}"],
        },
        {"sid": "P1_S2", "begin_time": 5, "end_time": 4, "text_tn": "X"},
    ]
    document = {"dataset": "GigaSpeech", "audios": [{"aid": "P1", "path": "audio/P1.opus", "segments": segments}]}
    source = tmp_path / "GigaSpeech.json"
    source.write_text(json.dumps(document))
    result = run(source, "--to", tmp_path / "out.json")
    assert (
        "audios[0].segments[1]: begin_time, end_time: expected seconds, the first less, found 5 and 4" in result.output
    )
    segments.pop()
    source.write_text(json.dumps(document))
    assert rows_of(source) == [
        {
            "testset_id": "P1_S1", "path": "audio/P1.opus", "start": 159.0, "end": 161.85, "task": "asr", "text": TEXT,
            "speaker": "N/A", "subsets": ["{XS}"],
        }
    ]  # fmt: skip


def test_ksponspeech(tmp_path: Path) -> None:
    source = tmp_path / "eval.trn"
    source.write_text("eval/K_E1.pcm :: 그래서 (3시)/(세 시)\n\neval/K_E2.pcm :: b/ 네\n", encoding="utf-8")
    rows = rows_of(source)
    assert rows[0]["testset_id"] == "K_E1"
    assert rows[0]["text"] == "그래서 (3시)/(세 시)"
    source.write_text("eval/K_E1.pcm :: a\n\nno transcript\n", encoding="utf-8")
    assert f"{source}:3: expected" in run(source, "--to", tmp_path / "out.json").output


def cut(name: str, start: float, duration: float, **more: Any) -> dict[str, Any]:
    """A cut as lhotse 1.33 writes it."""
    source = {"type": "file", "channels": [0], "source": "r.wav"}
    recording = {"id": "r", "sources": [source], "sampling_rate": 16000, "num_samples": 64000, "duration": 4.0}
    said = {"id": name, "recording_id": "r", "start": 0.0, "duration": 4.0, "channel": 0, "text": TEXT, "speaker": "s"}
    row = {"id": name, "start": start, "duration": duration, "channel": 0, "supervisions": [said]}
    return {**row, "recording": recording, "type": "MonoCut", **more}


def test_lhotse_cuts(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "cuts.jsonl.gz", [cut("c0", 0, 4.0), cut("c1", 1.1, 0.2)])
    assert rows_of(source) == [
        {"testset_id": "c0", "path": "r.wav", "task": "asr", "text": TEXT, "speaker": "s"},
        {"testset_id": "c1", "path": "r.wav", "start": 1.1, "end": 1.3, "task": "asr", "text": TEXT, "speaker": "s"},
    ]
    wrong = [cut("a", 0, 4, type="MixedCut"), cut("b", 0, 4, channel=1), cut("c", 0, 4, recording={})]
    result = run(write_lines(tmp_path / "bad.jsonl", wrong), "--to", tmp_path / "out.json")
    for expected in (":1: type: expected MonoCut", ":2: channel: expected 0, found 1", ":3: recording.sources:"):
        assert expected in result.output


def test_lhotse_shar(tmp_path: Path) -> None:
    shar = tmp_path / "shar"
    write_lines(shar / "cuts.000000.jsonl.gz", [cut("c0", 0, 4.0), cut("c1", 0, 4.0)])
    make_tar(shar / "recording.000000.tar", {"c0.flac": wave(4, "FLAC"), "c0.json": b"{}", "c1.flac": wave(4, "FLAC")})
    rows = rows_of(shar)
    assert [row["path"] for row in rows] == ["recording.000000.tar!c0.flac", "recording.000000.tar!c1.flac"]
    assert check_audio(shar / rows[1]["path"]).seconds == 4


def test_webdataset(tmp_path: Path) -> None:
    members = {
        "a/0.flac": wave(2, "FLAC"), "a/0.txt": TEXT.encode(), "a/1.wav": wave(1),
        "a/1.json": json.dumps({"text": "one", "lang": "en"}).encode(), "a/1.cls": b"3",
    }  # fmt: skip
    make_tar(tmp_path / "shards" / "train-000.tar", members)
    rows = rows_of(tmp_path / "shards")
    assert rows == [
        {"testset_id": "a/0", "path": "train-000.tar!a/0.flac", "task": "asr", "text": TEXT},
        {"testset_id": "a/1", "path": "train-000.tar!a/1.wav", "task": "asr", "text": "one", "lang": "en"},
    ]
    assert check_audio(tmp_path / "shards" / rows[0]["path"]).seconds == 2
    make_tar(tmp_path / "shards" / "train-001.tar", {"a/0.flac": wave(), "b.txt": b"x"})
    result = run(tmp_path / "shards", "--to", tmp_path / "out.json")
    assert "train-001.tar: 'b' has no audio, only .txt" in result.output
    assert "the id a/0 is that of train-000.tar!a/0.flac and train-001.tar!a/0.flac" in result.output


@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
@pytest.mark.parametrize("kind", ["webdataset", "shar"])
def test_members_behind_a_damaged_header_are_not_missed_in_silence(tmp_path: Path, damage: str, kind: str) -> None:
    archive = tmp_path / "recording.0.tar"
    make_tar(archive, {"a.flac": b"", "a.txt": b"one", "b.flac": b"", "b.txt": b"two"})
    write_lines(tmp_path / "cuts.0.jsonl.gz", [cut("a", 0, 1.0)])
    whole = archive.read_bytes()
    header = 512 + 1024  # of "b.flac": an empty member has a block, a short one two
    assert whole[header:].startswith(b"b.flac")
    archive.write_bytes(whole[: header + 300] if damage == "cut off" else whole[:header] + b"?" * 512 + whole[2048:])
    result = run(archive if kind == "webdataset" else tmp_path, "--to", tmp_path / "out.json", "--from", kind)
    assert result.exit_code == 3
    assert "recording.0.tar: cannot be read as a tar without compression: after 1536 bytes it is" in result.output
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_audio_tables_of_the_hub(tmp_path: Path, ending: str) -> None:
    audio = [{"bytes": wave(2), "path": "../../up/x.wav"}, {"bytes": wave(1, "FLAC"), "path": None}]
    table = pa.table({"id": ["u1", "u2"], "audio": audio, "sentence": [TEXT, "two"], "age": [30, None]})
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    if ending == "parquet":
        pq.write_table(table, folder / "test-00000-of-00001.parquet", row_group_size=1)
    else:
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
    assert "--audio FOLDER says where" in run(tmp_path / "set", "--to", tmp_path / "out.json").output
    rows = rows_of(tmp_path / "set", "--audio", tmp_path / "clips")
    assert rows == [
        {"testset_id": "u1", "path": "0000000-x.wav", "task": "asr", "text": TEXT, "age": 30},
        {"testset_id": "u2", "path": "0000001.flac", "task": "asr", "text": "two"},
    ]
    assert [check_audio(tmp_path / "clips" / row["path"]).seconds for row in rows] == [2, 1]
    assert (tmp_path / "clips" / "0000000-x.wav").read_bytes() == audio[0]["bytes"]


ROWS = [
    {"testset_id": "test0000", "path": "a b/세.wav", "task": "asr", "text": "  spaces  and 세 시 "},
    {"testset_id": "test0001", "path": "long.flac", "start": 1.1, "end": 3.3, "task": "asr", "text": "x"},
    {"testset_id": "test0002", "path": "long.flac", "start": 100.0, "task": "asr", "text": ""},
]
CAPTIONS = [
    {"testset_id": "test0000", "path": "a,b.wav", "task": "audiocaption_v2", "text": ['a "b", c', "d\ne"]},
    {"testset_id": "test0001", "path": "c.wav", "task": "audiocaption_v2", "text": "one"},
]
PLAIN = [{"testset_id": "K1", "path": "d/K1.pcm", "task": "asr", "text": "그래서 (3시)/(세 시)"}]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [("manifest", ROWS), ("kaldi", ROWS), ("kaldi", ROWS[:1]), ("clotho", CAPTIONS), ("kspon", PLAIN)],
)
def test_there_and_back(tmp_path: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    source, ending = tmp_path / "own.json", {"kspon": ".trn", "clotho": ".csv", "manifest": ".jsonl"}.get(kind, "")
    source.write_text(json.dumps({"annotation": rows}, ensure_ascii=False), encoding="utf-8")
    result = run(source, "--to", tmp_path / f"there{ending}", "--as", kind)
    assert result.exit_code == 0, result.output
    back = tmp_path / "back.json"
    result = run(tmp_path / f"there{ending}", "--to", back)
    assert result.exit_code == 0, result.output
    assert f"({kind})" in result.output
    assert json.loads(back.read_text(encoding="utf-8"))["annotation"] == rows


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("kspon", {"path": "a.wav", "text": "x", "testset_id": "b"}, "is not the file's name"),
        ("kspon", {"path": "a.wav", "text": "x", "testset_id": "a", "start": 1}, "a part of a file cannot stand there"),
        ("kaldi", {"path": "a.wav", "text": "x", "testset_id": "a b"}, "has white space, which ends an id there"),
        ("kaldi", {"path": "rm -r x |", "text": "x", "testset_id": "a"}, "would be read as something else there"),
        ("kaldi", {"path": "a.wav", "text": "x\ny", "testset_id": "a"}, "a line break cannot stand in kaldi"),
        ("manifest", {"path": "a.wav", "text": ["x", "y"], "testset_id": "a"}, "manifest has one text a clip"),
        ("clotho", {"path": "a.wav", "text": "x", "testset_id": "a", "end": 1}, "a part of a file cannot stand there"),
        ("manifest", {"path": "a.wav", "text": "x", "expand_wav": ["b"]}, "joined files cannot be converted"),
    ],
)
def test_what_a_target_cannot_hold_is_refused(tmp_path: Path, kind: str, row: dict[str, Any], message: str) -> None:
    source = tmp_path / "own.json"
    source.write_text(json.dumps([{"task": "asr", **row}]))
    result = run(source, "--to", tmp_path / "out", "--as", kind)
    assert result.exit_code == 3
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    source = tmp_path / "own.json"
    source.write_text(json.dumps([{"path": "a.wav", "task": "asr", "text": "x", "testset_id": "a", "mood": "good"}]))
    assert "Fields that have no place there: mood, task" in run(source, "--to", tmp_path / "k", "--as", "kaldi").output


def test_wrong_usage(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("nothing known\n")
    assert "does not exist" in run(tmp_path / "no", "--to", tmp_path / "o").output
    result = run(source, "--to", tmp_path / "o")
    assert result.exit_code == 2
    assert "looks like no data set that is known; --from says what it is: annotation, manifest, kaldi" in result.output
    assert 'did you mean "kaldi"?' in run(source, "--to", tmp_path / "o", "--from", "kadi").output
    assert run(source, "--to", tmp_path / "o", "--as", "librispeech").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert (
        "has no rows as librispeech" in run(tmp_path / "empty", "--to", tmp_path / "o", "--from", "librispeech").output
    )


def test_a_target_that_is_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tar(tmp_path / "a.tar", {"a.flac": b"", "a.txt": b"one"})
    (tmp_path / "folder").mkdir()
    for target in (".", "..", "folder", "/"):
        result = run(tmp_path / "a.tar", "--to", target)
        assert (result.exit_code, f"Cannot write {target}: Is a directory" in result.output) == (3, True), result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "folder"]


def test_a_folder_that_goes_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Path, pattern: str) -> Iterator[Path]:
        raise FileNotFoundError(2, "No such file or directory", str(self / "part"))
        yield

    monkeypatch.setattr(Path, "rglob", gone)
    result = run(tmp_path, "--to", tmp_path / "o.json")
    assert result.exit_code == 2
    assert f"{tmp_path} cannot be read: {tmp_path / 'part'}: No such file or directory." in result.output
