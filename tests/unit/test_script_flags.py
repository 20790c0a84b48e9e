"""What the commands in scripts/ say of flags that cannot be."""

from types import ModuleType

import pytest

from scripts import connections, create_tables, erase, heal_identities, replay_dead_letters, tell_error


@pytest.mark.parametrize("command", [create_tables, erase, heal_identities, replay_dead_letters, connections])
def test_a_flag_that_is_none_is_refused_in_one_line(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        command.main(["--dryrun"])

    assert exit_code.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"scripts/{command.__name__.removeprefix('scripts.')}: ")


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("so\nand so"), "so"), (ValueError("\n so"), "so"), (TimeoutError(), "TimeoutError")],
)
def test_an_error_is_one_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell_error.tell_error("erase", error) == tell_error.FAILED == 2

    assert capsys.readouterr().err == f"erase: {said}\n"
