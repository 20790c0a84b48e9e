"""Why resolved persons differ from the true ones, pair by pair: `python -m benchmarks.explain_pairs --help`.

Every pair of identifiers that belongs together and was left apart is missed, every pair that does not and was put
together is wrong. Each is counted under one cause; what evidence is, and when it suffices, says
`benchmarks/find_evidence.py`. A pair whose cause is the resolver is a bug: then the exit code is 1.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from math import comb
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.compare_results import read_result
from benchmarks.find_evidence import Evidence, Persons, find_evidence
from benchmarks.generate_calls import Truth
from benchmarks.name_persons import Node
from benchmarks.score_persons import Score, score_persons


class Cause(StrEnum):
    """Why a pair is missed or wrong."""

    VISITOR = "the person never gives an email"
    NO_LOGIN = "one is a device that no call carries with a user_id or email"
    BORROWED = "one is a device that was seen first with another person"
    NO_EMAIL = "they hang together, but no call links them to an email"
    ONLY_DEVICE = "an email or user_id that only a device connects with the rest: devices never join"
    ONLY_REJECTED = "only a rejected call links them"
    NEVER_LINKED = "no chain of calls leads from one to the other"
    RESOLVER = "the resolver: evidence says otherwise"


class Explained(msgspec.Struct):
    """All pairs of identifiers of one workload."""

    identifiers: int
    score: Score
    """Over all pairs."""
    true_pairs: int
    """That belong together."""
    joined_pairs: int
    """That were put together."""
    evident_score: Score
    """Over the pairs for which evidence suffices, and over what was joined of identifiers that it places rightly."""
    evident_pairs: int
    missed: dict[str, int]
    """Cause -> pairs."""
    wrong: dict[str, int]

    def is_right(self) -> bool:
        """Whether nothing is left that only the resolver can be blamed for."""
        faults = self.missed.get(Cause.RESOLVER, 0) + self.wrong.get(Cause.RESOLVER, 0)
        return not faults and self.evident_score == Score(1.0, 1.0)


def explain_pairs(
    persons: Persons, resolved: Mapping[Node, str], evidence: Evidence, with_rejected: Evidence
) -> Explained:
    """Every missed and every wrong pair."""
    missed: Counter[str] = Counter()
    true_pairs = evident_pairs = evident_found = 0
    for members in _group(persons, persons).values():
        for one, other in combinations(members, 2):
            true_pairs += 1
            is_found = one in resolved and resolved[one] == resolved.get(other)
            if evidence.suffices(one, other):
                evident_pairs += 1
                evident_found += is_found
            if not is_found:
                missed[_explain_missed(one, other, persons, evidence, with_rejected)] += 1
    joined, wrong, placed_joined, placed_wrong = _count_joined(persons, resolved, evidence)
    return Explained(
        identifiers=len(persons),
        score=score_persons(persons, resolved),
        true_pairs=true_pairs,
        joined_pairs=joined,
        evident_score=Score(_share(placed_joined - placed_wrong, placed_joined), _share(evident_found, evident_pairs)),
        evident_pairs=evident_pairs,
        missed=dict(missed.most_common()),
        wrong=dict(wrong.most_common()),
    )


def explain_output(calls: Path, truth: Truth, output: Path) -> Explained:
    """Those of the Parquet tables in a folder."""
    persons = {(kind, value): person for kind, known in truth.persons.items() for value, person in known.items()}
    return explain_pairs(persons, read_result(output).identities, *find_evidence(calls, persons))


def _explain_missed(one: Node, other: Node, persons: Persons, evidence: Evidence, with_rejected: Evidence) -> Cause:
    if evidence.suffices(one, other):
        return Cause.RESOLVER
    if with_rejected.suffices(one, other):
        return Cause.ONLY_REJECTED
    if persons[one] not in evidence.known_persons:
        return Cause.VISITOR
    if evidence.place(one) is None or evidence.place(other) is None:
        return Cause.NO_LOGIN
    if persons[one] != evidence.place(one) or persons[other] != evidence.place(other):
        return Cause.BORROWED
    if evidence.are_together(one, other):
        return Cause.NO_EMAIL
    return Cause.ONLY_DEVICE if evidence.meet_over_devices(one, other) else Cause.NEVER_LINKED


def _count_joined(
    persons: Persons, resolved: Mapping[Node, str], evidence: Evidence
) -> tuple[int, Counter[str], int, int]:
    """Pairs that were joined, the wrong ones by cause; and both among those whose identifiers are in their place.

    By kinds of members, not by members: a resolver that made one person of all would be counted in time as well.
    """
    joined = placed_joined = placed_wrong = 0
    wrong: Counter[str] = Counter()
    for members in _group(persons, resolved).values():
        joined += comb(len(members), 2)
        kinds = Counter((persons[node], evidence.place(node)) for node in members)
        own = [count for (person, place), count in kinds.items() if person == place]
        placed_joined += comb(sum(own), 2)
        placed_wrong += comb(sum(own), 2) - sum(comb(count, 2) for count in own)
        for (one, one_place), (other, other_place) in combinations(kinds, 2):
            if one != other:
                is_explained = one_place is not None and one_place == other_place
                pairs = kinds[one, one_place] * kinds[other, other_place]
                wrong[Cause.BORROWED if is_explained else Cause.RESOLVER] += pairs
    return joined, wrong, placed_joined, placed_wrong


def _group(nodes: Iterable[Node], persons: Mapping[Node, int] | Mapping[Node, str]) -> dict[int | str, list[Node]]:
    groups: dict[int | str, list[Node]] = defaultdict(list)
    for node in nodes:
        if node in persons:
            groups[persons[node]].append(node)
    return groups


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _rows(explained: Explained) -> list[tuple[str, str, str]]:
    """What, missed pairs, wrong pairs."""
    causes = [cause for cause in Cause if cause in explained.missed or cause in explained.wrong]
    rows = [
        (cause.value, f"{explained.missed.get(cause, 0):,}", f"{explained.wrong.get(cause, 0):,}") for cause in causes
    ]
    missed, wrong = sum(explained.missed.values()), sum(explained.wrong.values())
    return [
        *rows,
        ("all", f"{missed:,} of {explained.true_pairs:,}", f"{wrong:,} of {explained.joined_pairs:,}"),
    ]


def _scores(explained: Explained) -> list[tuple[str, str, str]]:
    """Over what, recall, precision."""
    return [
        (name, f"{score.recall:.4f}", f"{score.precision:.4f}")
        for name, score in (
            (f"over all {explained.true_pairs:,} true pairs", explained.score),
            (f"where the evidence suffices ({explained.evident_pairs:,} pairs)", explained.evident_score),
        )
    ]


def make_cause_tables(explained: Explained) -> list[Table]:
    """For a terminal."""
    scores = Table("pairs of identifiers", title=f"{explained.identifiers:,} identifiers", title_justify="left")
    causes = Table("cause", title="Pairs that are missed (recall) and wrong (precision)", title_justify="left")
    for table, columns, rows in (
        (scores, ("recall", "precision"), _scores(explained)),
        (causes, ("missed", "wrong"), _rows(explained)),
    ):
        for column in columns:
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*row)
    return [scores, causes]


def make_cause_markdown(explained: Explained) -> str:
    """For docs/identity.md."""
    lines = ["| pairs of identifiers | recall | precision |", "|---|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in _scores(explained)]
    lines += ["", "| cause | missed pairs | wrong pairs |", "|---|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(explained)]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.explain_pairs",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""example:
  python -m benchmarks.generate_calls calls.jsonl --calls 20000 --truth truth.json
  python -m pipelines.segment_to_bigquery --input_files calls.jsonl --output_dir out
  python -m benchmarks.explain_pairs calls.jsonl truth.json out""",
    )
    parser.add_argument("calls", type=Path, metavar="CALLS.jsonl", help="what benchmarks.generate_calls has written")
    parser.add_argument("truth", type=Path, metavar="TRUTH.json", help="its truth")
    parser.add_argument("output", type=Path, metavar="DIR", help="the tables of these calls, as Parquet")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/identity.md has them")
    arguments = parser.parse_args(argv)
    truth = msgspec.json.decode(arguments.truth.read_bytes(), type=Truth)
    explained = explain_output(arguments.calls, truth, arguments.output)
    if arguments.markdown:
        print(make_cause_markdown(explained))
    else:
        Console().print(*make_cause_tables(explained), sep="\n")
    return 0 if explained.is_right() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
