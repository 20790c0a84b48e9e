"""A file is read in ranges, wherever they are cut: every line once."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipelines.read import read_lines

CONTENTS = st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\n\n", b"\xff"]), max_size=30).map(b"".join)


@given(CONTENTS, st.sets(st.integers(0, 60)))
@example(b"ab\ncd\n", {3})  # the line begins at the very cut
@example(b"ab\ncd\n", {2})  # the cut is before the newline
@example(b"ab\ncd", {1, 2, 4})
@example(b"abcdef\n", {2, 4})  # ranges in which no line begins
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_line_is_read_once_for_any_cuts(tmp_path: Path, contents: bytes, cuts: set[int]) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(contents)
    bounds = sorted({0, len(contents)} | {cut for cut in cuts if cut < len(contents)})

    read = [
        line for start, end in pairwise(bounds) for lines in read_lines(str(path), start, end) for line in lines if line
    ]

    assert read == [line for line in contents.split(b"\n") if line]


@pytest.mark.parametrize("end", [3, 4, 5])
def test_a_line_belongs_to_the_range_in_which_it_begins(tmp_path: Path, end: int) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"abc\nde\n")

    first = [line for lines in read_lines(str(path), 0, end) for line in lines if line]

    assert first == ([b"abc"] if end <= 4 else [b"abc", b"de"])
