"""The file of --identity_settings: what it means, and that each mistake is named with its line."""

import pickle
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.check_pattern import find_fault
from pipelines.find_toml_lines import find_lines
from pipelines.identity_settings import IdentitySettingsError, parse_identity_settings, read_identity_settings
from schemas.identity_rules import DEFAULT_RULES, IdentityRules

DEFAULT_FILE = Path(__file__).parents[2] / "schemas" / "identity_settings.toml"


def parse(text: str) -> IdentityRules:
    return parse_identity_settings(text.encode(), "rules.toml")


def refuse(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(IdentitySettingsError) as refused:
        parse_identity_settings(data, "rules.toml")
    said = str(refused.value)

    assert "\n" not in said
    return said


def test_the_file_that_is_shipped_holds_every_default() -> None:
    assert read_identity_settings(str(DEFAULT_FILE)) == DEFAULT_RULES
    declared = tomllib.loads(DEFAULT_FILE.read_text())
    assert set(declared) == {"priority", "limits", "blocked"}
    assert set(declared["limits"]) == {"emails_per_user_id", "user_ids_per_email"}
    assert set(declared["blocked"]) == {"values", "patterns"}


def test_the_page_shows_the_file_that_is_shipped() -> None:
    page = (DEFAULT_FILE.parents[1] / "docs" / "identity_settings.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]

    assert tomllib.loads(example) == tomllib.loads(DEFAULT_FILE.read_text())


def test_what_is_absent_keeps_its_default() -> None:
    assert parse("") == DEFAULT_RULES
    assert parse("[limits]\n[blocked]\n") == DEFAULT_RULES
    assert parse("[limits]\nemails_per_user_id = 9") == IdentityRules(emails_per_user_id=9)


def test_every_setting_arrives() -> None:
    rules = parse(
        'priority = ["email", "anonymous_id", "user_id"]\n'
        "limits.emails_per_user_id = 7\nlimits.user_ids_per_email = 1\n"
        "[blocked]\nvalues = ['Guest']\npatterns = ['test-.*', '(.)\\1+']"
    )

    assert rules == IdentityRules(7, 1, ("Guest",), ("test-.*", r"(.)\1+"), ("email", "anonymous_id", "user_id"))


def test_a_file_saved_by_a_windows_editor_is_read() -> None:
    assert parse_identity_settings(b"\xef\xbb\xbf[limits]\r\nemails_per_user_id = 7\r\n", "f").emails_per_user_id == 7


def test_rules_travel_also_after_use() -> None:
    rules = parse("[blocked]\nvalues = ['Guest']")
    assert rules.is_blocked("GUEST")

    assert pickle.loads(pickle.dumps(rules)) == rules
    assert pickle.loads(pickle.dumps(rules)).is_blocked("guest")


def test_each_pattern_counts_its_own_groups() -> None:
    rules = IdentityRules(blocked_patterns=("(a)(b)", r"(.)\1+"))

    assert [rules.is_blocked(value) for value in ("ab", "zzz", "xy", "AB")] == [True, True, False, True]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[limits]\nemails_per_user_id =\n", 2, "is no TOML: invalid value"),
        ("[limits\n", 1, "is no TOML"),
        ("\n\npriority = [\n'email',\n\n", 4, "is no TOML"),
        ("[limits]\n\n[limits]", 3, "is no TOML: cannot declare"),
        ("# limits\n[limit]\n", 2, "unknown key limit, there are priority, limits, blocked; did you mean limits?"),
        ("[limits]\n\nemail_per_user_id = 3", 3, "did you mean emails_per_user_id?"),
        ("[blocked]\nnothing_like_it = 1", 2, "unknown key nothing_like_it, there are values, patterns"),
        ("\nemails_per_user_id = 3", 2, "emails_per_user_id does not belong here but under [limits]"),
        ("[blocked]\npriority = []", 2, "priority does not belong here but at the top, above the first section"),
        ("limits = 5", 1, "limits is 5; it must be a section, [limits]"),
        ("\n[[limits]]\nemails_per_user_id = 3", 2, "it must be a section"),
        ("[limits]\nuser_ids_per_email = 0", 2, "user_ids_per_email is 0; it must be a whole number, at least 1"),
        ("[limits]\nuser_ids_per_email = -1", 2, "at least 1"),
        ("[limits]\nuser_ids_per_email = 2.5", 2, "is 2.5; it must be a whole number"),
        ("[limits]\nuser_ids_per_email = true", 2, "is true; it must be a whole number"),
        ("[limits]\nuser_ids_per_email = '5'", 2, 'is "5"; it must be a whole number'),
        ("\nlimits = {user_ids_per_email = 0}", 2, "at least 1"),
        ("priority = ['email', 'user_id']", 1, "priority must name user_id, email, anonymous_id, each once"),
        ("priority = ['email', 'email', 'user_id', 'anonymous_id']", 1, "each once"),
        ("priority = [\n'email', 'user_id',\n'anonymousId']", 3, 'not "anonymousId"; did you mean anonymous_id?'),
        ("priority = 'email'", 1, 'priority is "email"; it must be a list of texts'),
        ("[blocked]\nvalues = 'null'", 2, "it must be a list of texts"),
        ("[blocked]\nvalues = [\n'a', # ]\n['b',\n'c'],\n]", 4, "write it as a text, in quotes"),
        ("[blocked]\nvalues = ['''\n]\n''',\n\n1,\n'x']", 6, "holds 1; write it as a text, in quotes"),
        ("[blocked]\nvalues = ['a',\n'']", 3, "holds an empty text"),
        ("[blocked]\npatterns = [\n'ok',\n# not this: '('\n'(',\n]", 5, 'the pattern "(" is no regular expression'),
        ("[blocked]\npatterns = [\n'.*',\n]", 3, "blocks every email"),
        (b"# \xc3\xa9\n# \xe9\n", 2, "is not UTF-8"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str | bytes, line: int, says: str) -> None:
    said = refuse(text)

    assert said.startswith(f"rules.toml, line {line}: ")
    assert says in said


def test_a_long_value_is_cut_and_stays_on_the_line() -> None:
    said = refuse("priority = ['" + "long\\n" * 100 + "']") + refuse('priority = ["a\\nb"]')

    assert len(said) < 400


@pytest.mark.parametrize("pattern", [r"[0-]*", r"test-.*", r".*@example\.com", r"(?i)demo|guest", r"(.)\1*", r"[0-9]+"])
def test_a_pattern_that_blocks_some_is_accepted(pattern: str) -> None:
    assert find_fault(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "is no regular expression"),
        ("a{99999999999}", "is no regular expression"),
        ("[[a]", "is no regular expression"),
        ("", "only the empty text"),
        ("^$", "only the empty text"),
        (".*", "blocks every email"),
        (r"\S+@\S+", "blocks every email"),
        (r"[^@]+", "blocks every user_id"),
        ("[A-Z0-9-]{3,}", "blocks every user_id"),
        ("(a+)+", "takes too long"),
        ("((xy)+)+", "takes too long"),
        ("(.*a){9}", "takes too long"),
    ],
)
def test_a_pattern_that_would_do_harm_is_refused(pattern: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.check_pattern._SECONDS", 0.2)  # too long is too long for any limit

    assert says in (find_fault(pattern) or "nothing")


# Where things stand.

_TEXTS = st.sampled_from(["'a'", '"b"', "'#'", r'"\"]"', "'''x'''", '"""y"""', "'''\n]'''", '"""\n=\n"""', "''"])
_GAPS = st.sampled_from(["", " ", "\n", " # '[\n", '\n\n# "\n'])


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, list[int]]:
    """An array as it may be laid out, and where its elements begin: lines after the one that it begins on."""
    text, lines = "[" + draw(_GAPS), []
    for index, element in enumerate(draw(st.lists(_TEXTS, max_size=4))):
        text += ("," + draw(_GAPS)) if index else ""
        lines.append(text.count("\n"))
        text += element + draw(_GAPS)
    return text + "]", lines


@given(st.lists(st.tuples(_GAPS, st.sampled_from(["k{}", "'k{}'", "s.k{}", "[t{}]\nk{}"]), arrays()), max_size=4))
def test_every_key_and_element_is_found_on_its_line(parts: list[tuple[str, str, tuple[str, list[int]]]]) -> None:
    text, expected = "", []
    for number, (gap, key, (array, elements)) in enumerate(parts):
        text += "\n" + gap + "\n" + re.sub(r"\{\}", str(number), key)
        line = text.count("\n") + 1
        text += f" = {array} # end"
        expected += [line, *(line + below for below in elements)]
    tomllib.loads(text)

    found = find_lines(text)

    is_array = {path for path in found if isinstance(path[-1], int) or not str(path[-1]).startswith("t")}
    assert sorted(found[path] for path in is_array) == sorted(expected)
