-- Which person belongs to which group, from group calls. Segment has no call that ends a membership: it only grows.
-- Grain: one row a (workspace_id, person_id, group_id), for callers who are a known person today.
-- `user_id` is the one that the person last used in this group: exactly one even if the person has several; NULL if the
-- person's calls for this group never carried one that is the person's, as a blocked one never is. first_seen_at and
-- last_seen_at are event times.
-- Cost: reads six short columns of all days of `group_identifies`, and `identities`.
WITH calls AS (
  SELECT workspace_id, message_id, group_id, identifier_type, identifier, user_id, timestamp, received_at
  FROM `{dataset}.group_identifies`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY workspace_id, message_id ORDER BY received_at, timestamp) = 1
)

SELECT
  calls.workspace_id,
  today.person_id,
  calls.group_id,
  own.identifier AS user_id,
  MIN(calls.timestamp) OVER (PARTITION BY calls.workspace_id, today.person_id, calls.group_id) AS first_seen_at,
  MAX(calls.timestamp) OVER (PARTITION BY calls.workspace_id, today.person_id, calls.group_id) AS last_seen_at
FROM calls
INNER JOIN `{dataset}.current_identities` AS today
  ON
    today.workspace_id = calls.workspace_id
    AND today.identifier_type = calls.identifier_type
    AND today.identifier = calls.identifier
LEFT JOIN `{dataset}.current_identities` AS own
  ON
    own.workspace_id = calls.workspace_id
    AND own.identifier_type = 'user_id'
    AND own.identifier = calls.user_id
    AND own.person_id = today.person_id
WHERE TRUE
QUALIFY
  ROW_NUMBER() OVER (
    PARTITION BY calls.workspace_id, today.person_id, calls.group_id
    ORDER BY own.identifier IS NULL, calls.timestamp DESC, calls.received_at DESC, calls.message_id DESC
  ) = 1
