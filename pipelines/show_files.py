"""Files that nobody sees before they are whole, in folders on any file system that Beam knows."""

from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

# DuckDB's *.parquet also finds names that begin with a dot.
HIDDEN = ".unfinished"


def has_files(folder: str, pattern: str) -> bool:
    """Whether the folder holds such files; its name may hold `[` or `*`, which Beam would take for a pattern."""
    if "://" not in folder:
        return any(Path(folder).glob(pattern))
    return bool(FileSystems.match([FileSystems.join(folder, pattern)])[0].metadata_list)


def make_folder(folder: str) -> None:
    """Make a folder unless it is there; two workers may try at once."""
    try:
        FileSystems.mkdirs(folder)
    except OSError:
        if not FileSystems.exists(folder):
            raise


class ShowFileFn(beam.DoFn):
    """Gives a whole file its own name: `.NAME.unfinished` becomes `NAME`."""

    def process(self, hidden: str) -> Iterable[str]:
        """Take the path of the hidden file; give its new one."""
        folder, name = FileSystems.split(hidden)
        path = FileSystems.join(folder, name.removeprefix(".").removesuffix(HIDDEN))
        if FileSystems.exists(hidden):  # else a first try has shown it
            FileSystems.rename([hidden], [path])
        yield path
