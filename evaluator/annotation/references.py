"""Rows that are one clip with several reference captions.

In: the samples of an annotation for a task that takes many references. Out: one sample for each clip, with the
references of all its rows; and notices. Published captioning sets are often written so: one row for each caption.
"""

from collections.abc import Sequence
from dataclasses import replace

from evaluator.annotation.annotation import Sample
from evaluator.wording import named


def group_references(samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Join the rows of a testset_id that ask the same of the same file.

    A file under several ids stays several clips, because each id is a row of the CSV; where they have one reference
    each, a notice says what that does to the scores.

    Args:
        samples: in the annotation's order.

    Returns:
        tuple[list[Sample], list[str]]: one sample a clip, at its first row's place; sentences for the user.

    Example:
        Rows 0 and 2 are clip "a" with the texts "rain" and "it rains", row 1 is "b" -> "a" with both, then "b".
    """
    groups: dict[tuple[object, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.id, sample.files, sample.task, sample.question), []).append(sample)
    clips = [
        replace(rows[0], references=tuple(text for row in rows for text in row.references)) for rows in groups.values()
    ]
    return clips, [*_joined(len(samples), len(clips)), *_files_of_several_ids(clips), *_ids_of_several_files(clips)]


def _joined(rows: int, clips: int) -> list[str]:
    if rows == clips:
        return []
    return [f"{rows} rows are {clips} clips: rows with the same testset_id and file are references of one clip."]


def _files_of_several_ids(clips: Sequence[Sample]) -> list[str]:
    by_file: dict[tuple[object, ...], list[Sample]] = {}
    for clip in clips:
        by_file.setdefault((clip.files, clip.task, clip.question), []).append(clip)
    split = [same for same in by_file.values() if len(same) > 1 and all(len(clip.references) == 1 for clip in same)]
    if not split:
        return []
    first = named([clip.id for clip in split[0]], 3)
    return [
        f"{len(split)} file(s) stand under several testset_ids with one reference each (the first: {first}). Scored "
        "against one reference at a time, CIDEr-D, SPIDEr and BLEU come out lower than against all of a clip; give "
        'its rows one testset_id, or make "text" a list.'
    ]


def _ids_of_several_files(clips: Sequence[Sample]) -> list[str]:
    files: dict[str, set[object]] = {}
    for clip in clips:
        files.setdefault(clip.id, set()).add(clip.files)
    shared = [identifier for identifier, paths in files.items() if len(paths) > 1]
    if not shared:
        return []
    return [f"{len(shared)} testset_id(s) name different files ({named(shared, 3)}); each file is a clip of its own."]
