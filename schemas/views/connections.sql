-- Connections to the collector as they are now: what `connection_id` in `counts`, `dead_letters` and the facts stands for.
-- Grain: one row a connection_id; `valid_keys` is how many of its API keys open the door now, 0 after a revocation.
-- Cost: reads `connection_changes`, a few rows a connection.
WITH
  settings AS (
    SELECT
      connection_id,
      ANY_VALUE(workspace_id) AS workspace_id,
      ANY_VALUE(kind) AS kind,
      MIN(IF(change = 'created', changed_at, NULL)) AS created_at,
      MAX_BY(name, IF(name IS NULL, NULL, changed_at)) AS name,
      MAX_BY(calls_per_second, IF(calls_per_second IS NULL, NULL, changed_at)) AS calls_per_second
    FROM `{dataset}.connection_changes`
    WHERE change IN ('created', 'set')
    GROUP BY connection_id
  ),
  keys AS (
    SELECT connection_id, key_id, MIN(expires_at) AS expires_at
    FROM `{dataset}.connection_changes`
    WHERE key_id IS NOT NULL
    GROUP BY connection_id, key_id
  ),
  valid_keys AS (
    SELECT connection_id, COUNT(*) AS valid_keys
    FROM keys
    WHERE expires_at IS NULL OR expires_at > CURRENT_TIMESTAMP()
    GROUP BY connection_id
  )
SELECT
  settings.connection_id,
  settings.workspace_id,
  settings.kind,
  settings.name,
  settings.created_at,
  settings.calls_per_second,
  COALESCE(valid_keys.valid_keys, 0) AS valid_keys
FROM settings
LEFT JOIN valid_keys USING (connection_id)
WHERE settings.created_at IS NOT NULL
