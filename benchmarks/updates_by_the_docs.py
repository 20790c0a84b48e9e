"""Identity updates as Beam's documentation teaches to read them: the newest of each identifier, and two side inputs."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.io.textio import ReadFromText
from apache_beam.pvalue import AsDict

from benchmarks.read_identity_updates import KnownUser

Fields: TypeAlias = dict[str, Any]


def read_updates(pipeline: beam.Pipeline, updates: str | None) -> tuple[Any, Any]:
    """Whose each address is, and the user_ids of persons: side inputs, or empty dicts, which cost nothing."""
    if updates is None:
        return {}, {}
    known = (
        pipeline
        | "Read updates" >> ReadFromText(updates)
        | "Key by identifier" >> beam.Map(key_by_identifier)
        | "Find newest" >> beam.CombinePerKey(NewestUpdate())
    )
    persons = known | "Tell persons" >> beam.FlatMap(tell_person)
    return AsDict(persons), AsDict(known | "Tell users" >> beam.FlatMap(tell_known_user))


def key_by_identifier(line: str) -> tuple[tuple[str | None, str | None], Fields]:
    """An identity update, by whose it tells."""
    update = json.loads(line)
    return (update["user_id"], update["email"]), update


class NewestUpdate(beam.CombineFn):
    """Of an identifier the update of the highest version, and the earliest time."""

    def create_accumulator(self) -> Fields:
        """Nothing is known."""
        return {}

    def add_input(self, accumulator: Fields, update: Fields) -> Fields:
        """One more."""
        return self.merge_accumulators([accumulator, {**update, "since": update["at"]}])

    def merge_accumulators(self, accumulators: Iterable[Fields]) -> Fields:
        """What several know."""
        updates = [accumulator for accumulator in accumulators if accumulator]
        if not updates:
            return {}
        newest = max(updates, key=lambda update: update["version"])
        return {**newest, "since": min(update["since"] for update in updates)}

    def extract_output(self, accumulator: Fields) -> Fields:
        """As it is."""
        return accumulator


def tell_person(known: tuple[Any, Fields]) -> Iterator[tuple[str, str]]:
    """Whose an address is."""
    update = known[1]
    if update["email"] is not None and update["person_id"] is not None:
        yield update["email"], update["person_id"]


def tell_known_user(known: tuple[Any, Fields]) -> Iterator[tuple[str, KnownUser]]:
    """The user_id of a person."""
    update = known[1]
    if update["user_id"] is not None and update["person_id"] is not None:
        since = int(datetime.fromisoformat(update["since"]).timestamp())
        yield update["person_id"], KnownUser(update["user_id"], since)
