-- Every track, page and screen call with today's person, and without duplicates.
-- Grain: one row a (workspace_id, message_id); of a message that was written twice the copy received first.
-- `person_id` is today's, after every merge, NULL while nobody is known; `written_person_id` is the one known at the time.
-- Cost: reads the columns you select of all days, because a duplicate may lie days from its first copy. For one day of a
-- big table, filter `activities` by received_at and join `current_identities` yourself.
WITH calls AS (
  SELECT *
  FROM `{dataset}.activities`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY workspace_id, message_id ORDER BY received_at, timestamp) = 1
)

SELECT
  calls.* REPLACE (today.person_id AS person_id),
  calls.person_id AS written_person_id
FROM calls
LEFT JOIN `{dataset}.current_identities` AS today
  ON
    today.workspace_id = calls.workspace_id
    AND today.identifier_type = calls.identifier_type
    AND today.identifier = calls.identifier
