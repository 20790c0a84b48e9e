"""Lines of JSON to files: `DIR/FOLDER/part-ID.jsonl`, every file whole."""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.show_files import HIDDEN, ShowFileFn, has_files, make_folder

_MIME_TYPE = "application/x-ndjson"


class WriteLines(beam.PTransform):
    """Write lines to files of one folder.

    As with WriteParquet a file is hidden until it is whole and committed: a bundle that is tried again shows it once.
    """

    def __init__(self, output_dir: str, folder: str) -> None:
        super().__init__()
        self._folder = FileSystems.join(output_dir, folder)

    def expand(self, lines: PCollection) -> PCollection:
        """Apply it to a PCollection of `bytes`, whole lines with their ends; gives the paths of the files."""
        files: PCollection = (
            lines
            | "WindowGlobally" >> beam.WindowInto(GlobalWindows())
            | "WriteHidden" >> beam.ParDo(_WriteHiddenFn(self._folder))
            | "CommitFiles" >> beam.Reshuffle()
            | "ShowFiles" >> beam.ParDo(ShowFileFn())
        )
        return files


def complete_lines(output_dir: str, folder: str) -> None:
    """Write an empty file if there were no lines: who reads `*.jsonl` after a run finds one in any case."""
    if not has_lines(output_dir, folder):
        path = FileSystems.join(output_dir, folder)
        make_folder(path)
        _create_file(FileSystems.join(path, "part-empty.jsonl")).close()


def has_lines(output_dir: str, folder: str) -> bool:
    """Whether a run has written lines, or that there are none, below the folder."""
    return has_files(FileSystems.join(output_dir, folder), "*.jsonl")


def _create_file(path: str) -> Any:
    return FileSystems.create(path, mime_type=_MIME_TYPE, compression_type=CompressionTypes.UNCOMPRESSED)


class _WriteHiddenFn(beam.DoFn):
    """One file a bundle, if the bundle has lines."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def start_bundle(self) -> None:
        self._path: str | None = None

    def process(self, lines: bytes) -> Iterable[str]:
        if lines and self._path is None:
            make_folder(self._folder)
            self._path = FileSystems.join(self._folder, f".part-{uuid.uuid4().hex}.jsonl{HIDDEN}")
            self._file = _create_file(self._path)
        if lines:
            self._file.write(lines)
        return ()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._path is not None:
            self._file.close()
            yield WindowedValue(self._path, GlobalWindow().max_timestamp(), (GlobalWindow(),))
