"""Print docs/tables.md: every table and view, from schemas/tables and schemas/views.

`python -m scripts.describe_tables > docs/tables.md` after a change there; a test compares the two.
"""

import re
from collections.abc import Iterable, Iterator

from schemas.tables import TABLES, VIEWS, Field, Table, describe_view, load_table

_HEAD = """# Tables and views

Generated from `schemas/tables/*.json` and the first comment of `schemas/views/*.sql` by
`python -m scripts.describe_tables > docs/tables.md`: change those, not this page.

Names are Segment's snake_case. The reasons in `dead_letters` and `counts` are explained in
[dead letters](dead_letters.md). Facts keep the identifiers that were sent and the person who was known when they were
written; the views give today's person.
"""


def describe_tables() -> str:
    """The page, as markdown."""
    parts = [_HEAD, _index()]
    parts += [_describe_table(load_table(name)) for name in TABLES]
    parts += [_describe_view(name) for name in VIEWS]
    return "\n".join(parts)


def _index() -> str:
    tables = ", ".join(f"[{name}](#{name})" for name in TABLES)
    views = ", ".join(f"[{name}](#{name})" for name in VIEWS)
    return f"Tables: {tables}.\n\nViews: {views}.\n"


def _describe_table(table: Table) -> str:
    lines = [
        f"## {table.name}\n",
        f"{table.description}\n",
        f"Partitioned by the day of `{table.partition_by_day}`, clustered by {_join(table.cluster_by)}.\n",
        "| column | type | mode | meaning |",
        "|---|---|---|---|",
        *(_row(name, field) for name, field in _flatten("", table.fields)),
    ]
    return "\n".join(lines) + "\n"


def _describe_view(name: str) -> str:
    paragraphs = re.sub(r" (?=(?:Grain|Cost): )", "\n\n", describe_view(name))
    return f"## {name}\n\nA view. {paragraphs}\n"


def _flatten(path: str, fields: Iterable[Field]) -> Iterator[tuple[str, Field]]:
    """Every field with its dotted name, the members of a record behind it."""
    for field in fields:
        yield path + field.name, field
        yield from _flatten(f"{path}{field.name}.", field.fields)


def _row(name: str, field: Field) -> str:
    meaning = field.description.replace("|", "\\|")
    return f"| `{name}` | {field.type} | {field.mode} | {meaning} |"


def _join(columns: Iterable[str]) -> str:
    return ", ".join(f"`{column}`" for column in columns)


if __name__ == "__main__":
    print(describe_tables(), end="")
