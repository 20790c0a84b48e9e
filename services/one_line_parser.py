"""Flags of the programs: a mistake is told in one line."""

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong without the usage around it; exit code 2."""

    def error(self, message: str) -> NoReturn:
        """As argparse calls it."""
        self.exit(2, f"{self.prog}: {message}\n")
