"""Which rows of a dataset are a person's, as conditions of SQL; docs/erasure.md#which-rows-are-a-persons.

Their parameters are arrays of text: `user_ids`, `anonymous_ids`, `emails` and `person_ids`.
"""

COUNTS_FOR = """(
  (identifier_type = 'user_id' AND identifier IN UNNEST(@user_ids))
  OR (identifier_type = 'anonymous_id' AND identifier IN UNNEST(@anonymous_ids))
  OR LOWER(TRIM(identifier)) IN UNNEST(@emails))"""
"""The identifier that the row counts for is one of the person's."""

CARRIES = f"""({COUNTS_FOR}
  OR user_id IN UNNEST(@user_ids)
  OR anonymous_id IN UNNEST(@anonymous_ids)
  OR LOWER(TRIM(user_id)) IN UNNEST(@emails)
  OR LOWER(TRIM(anonymous_id)) IN UNNEST(@emails))"""
"""The row carries one of the person's identifiers, whichever it counts for."""

_IN_CONTEXT = "LOWER(TRIM(context_traits_email)) IN UNNEST(@emails)"

OF_PERSON = "person_id IN UNNEST(@person_ids)"
"""The row's person is this one, or one that was merged into it."""

ROWS = {
    "activities": f"{CARRIES} OR {_IN_CONTEXT}",
    "identifies": f"{CARRIES} OR {_IN_CONTEXT} OR LOWER(TRIM(email)) IN UNNEST(@emails)",
    "group_identifies": f"{CARRIES} OR {_IN_CONTEXT}",
    "aliases": f"""{CARRIES}
  OR previous_id IN UNNEST(@user_ids)
  OR previous_id IN UNNEST(@anonymous_ids)
  OR LOWER(TRIM(previous_id)) IN UNNEST(@emails)
  OR LOWER(TRIM(JSON_VALUE(context, '$.traits.email'))) IN UNNEST(@emails)""",
    "audience_memberships": CARRIES,
    "identity_merges": f"""{COUNTS_FOR}
  OR (refused_type = 'user_id' AND refused_identifier IN UNNEST(@user_ids))
  OR (refused_type = 'anonymous_id' AND refused_identifier IN UNNEST(@anonymous_ids))
  OR LOWER(TRIM(refused_identifier)) IN UNNEST(@emails)
  OR from_{OF_PERSON}
  OR into_{OF_PERSON}""",
    # Last: as long as these are there, a run that is interrupted finds the whole person again.
    "identities": f"{COUNTS_FOR} OR {OF_PERSON}",
}
"""Table -> which of its rows in the workspace are the person's, in the order in which they go."""

LETTER = "COALESCE(payload_sha256, TO_HEX(SHA256(payload)))"
"""What tells a dead letter: the parts of one payload share it."""

CANDIDATES = f"""
SELECT {LETTER} AS letter, IFNULL(part, 1) AS part, payload, TO_JSON_STRING(attributes) AS attributes
FROM `{{dataset}}.dead_letters`
WHERE workspace_id = @workspace_id AND (
  IFNULL(parts, 1) > 1
  OR SAFE_CONVERT_BYTES_TO_STRING(payload) IS NULL
  OR STRPOS(SAFE_CONVERT_BYTES_TO_STRING(payload), @backslash) > 0
  OR EXISTS (
    SELECT 1 FROM UNNEST(@needles) AS needle
    WHERE STRPOS(LOWER(SAFE_CONVERT_BYTES_TO_STRING(payload)), needle) > 0
      OR STRPOS(LOWER(TO_JSON_STRING(attributes)), needle) > 0))
ORDER BY letter, part
"""
"""Dead letters that may hold an identifier: as it is, or escaped, or not as text, or a part of it in another part.

Parameters: `workspace_id`, `backslash`, and `needles`, an array of texts in lower case.
"""
