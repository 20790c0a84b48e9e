-- Who is who today: the latest row of `identities` for each identifier.
-- Grain: one row a (workspace_id, identifier_type, identifier).
-- Cost: reads `identities` whole, which is small next to the calls (one row a change of an identifier's person).
SELECT
  workspace_id,
  identifier_type,
  identifier,
  person_id,
  version,
  updated_at
FROM `{dataset}.identities`
WHERE TRUE
QUALIFY
  ROW_NUMBER() OVER (
    PARTITION BY workspace_id, identifier_type, identifier
    ORDER BY version DESC, updated_at DESC, person_id
  ) = 1
