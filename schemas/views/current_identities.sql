-- Who is who today: the latest row of `identities` for each identifier.
-- Grain: one row a (workspace_id, identifier_type, identifier).
-- Cost: reads `identities` whole, which is small next to the calls (one row a change of an identifier's person).
SELECT
  workspace_id,
  identifier_type,
  identifier,
  person_id,
  version,
  updated_at,
  person_since,
  linked_at
FROM (
  SELECT
    *,
    ROW_NUMBER() OVER (
      PARTITION BY workspace_id, identifier_type, identifier
      ORDER BY version DESC, updated_at DESC, person_id
    ) AS nth
  FROM `{dataset}.identities`
)
-- An identifier that belongs to nobody any more has a latest row without a person.
WHERE nth = 1 AND person_id IS NOT NULL
