import pytest
from apache_beam.io.filesystem import BeamIOError

from pipelines.first_line import first_line


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("\nwhat\nand where"), "what"),
        (ValueError("x" * 400), "x" * 300),
        (TimeoutError(), "TimeoutError"),
        (BeamIOError("Match failed", {"gs://b/*": BeamIOError("List failed", {"gs://b": KeyError("why")})}), "'why'"),
        (BeamIOError("no path is to blame", {}), "no path is to blame with exceptions {}"),
    ],
)
def test_one_line_says_why(error: Exception, says: str) -> None:
    assert first_line(error) == says
