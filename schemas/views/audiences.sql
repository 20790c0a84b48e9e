-- Who is in which Engage audience now: those whose latest change by event time is an entry.
-- Grain: one row a (workspace_id, audience_key, member); the member is today's person, else the identifier of the call.
-- The identifier columns are those of the latest call; last_entered_at is its event time (Engage repeats entries on a resync).
-- Cost: reads `audience_memberships`, one row a change, and `identities`.
WITH latest AS (
  SELECT
    changes.workspace_id,
    changes.audience_key,
    today.person_id,
    changes.identifier_type,
    changes.identifier,
    changes.user_id,
    changes.anonymous_id,
    changes.computation_id,
    changes.space_id,
    changes.timestamp AS last_entered_at,
    changes.entered
  FROM `{dataset}.audience_memberships` AS changes
  LEFT JOIN `{dataset}.current_identities` AS today
    ON
      today.workspace_id = changes.workspace_id
      AND today.identifier_type = changes.identifier_type
      AND today.identifier = changes.identifier
  WHERE changes.identifier IS NOT NULL
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY
        changes.workspace_id,
        changes.audience_key,
        today.person_id,
        IF(today.person_id IS NULL, changes.identifier_type, NULL),
        IF(today.person_id IS NULL, changes.identifier, NULL)
      ORDER BY changes.timestamp DESC, changes.received_at DESC, changes.message_id DESC, changes.entered
    ) = 1
)

SELECT * EXCEPT (entered)
FROM latest
WHERE entered
