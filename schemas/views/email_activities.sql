-- Every email event of the nine kinds that our email log pipeline sends through Segment, with today's person.
-- Grain: one row a (workspace_id, message_id); of a message that was written twice the copy received first, for ever.
-- `event` is the call's name (email_delivered, email_opened, email_unique_opens, email_bounced, email_reported_as_spam,
-- link_clicked, unique_link_click, unique_link_click_per_unique_open, email_unsubscribed); `email_event` is the log's
-- word: delivered, opened, clicked, bounced, reported_as_spam or unsubscribed. A first open is two rows, an email_opened
-- with is_unique_open and an email_unique_opens; a first click likewise: count the events of one name, or use
-- `email_engagement`. `person_id` is today's: that of the call's identifier, else that of the recipient's email; NULL
-- while nobody is known. `email` is the recipient's, properties.userId, lower-cased and trimmed as in `identities`.
-- `email_id` to `email_link_url` are the properties of that name; one that is a number or a boolean is read as text, a
-- list or an object is NULL. `is_unique_open` and `is_unique_click` are NULL unless they were sent as a boolean. True
-- only if the context says so, else false: `is_machine_open` (an open by Apple's mail privacy or another prefetch),
-- `is_bot_click` (a click by a link scanner), `is_implied_open` (a first open that nobody saw, taken from a click).
-- `user_agent` and `ip` are those of whoever opened or clicked.
-- Cost: reads `event`, `type`, `properties`, `context` and ten short columns of all days of `activities`, less those that
-- you do not select; the two JSON columns are the wide ones. A filter on received_at or timestamp reads no less: a
-- duplicate may lie days from its first copy, so it applies only after all days were compared. For one day of a big
-- table, filter `activities` by received_at yourself; for dashboards, materialise this view once a day.
WITH calls AS (
  SELECT
    workspace_id,
    message_id,
    event,
    JSON_VALUE(properties, '$.event') AS email_event,
    timestamp,
    received_at,
    identifier_type,
    identifier,
    user_id,
    anonymous_id,
    NULLIF(LOWER(TRIM(JSON_VALUE(properties, '$.userId'))), '') AS email,
    JSON_VALUE(properties, '$.email_id') AS email_id,
    JSON_VALUE(properties, '$.campaign_id') AS campaign_id,
    JSON_VALUE(properties, '$.campaign_run_id') AS campaign_run_id,
    JSON_VALUE(properties, '$.campaign_name') AS campaign_name,
    JSON_VALUE(properties, '$.email_subject') AS email_subject,
    JSON_VALUE(properties, '$.email_link_url') AS email_link_url,
    -- As JSON text, where the boolean true is told from the string "true", as JSON_VALUE and LAX_BOOL do not.
    TO_JSON_STRING(JSON_QUERY(properties, '$.is_unique_open')) AS is_unique_open,
    TO_JSON_STRING(JSON_QUERY(properties, '$.is_unique_click')) AS is_unique_click,
    TO_JSON_STRING(JSON_QUERY(context, '$.machine_open')) AS machine_open,
    TO_JSON_STRING(JSON_QUERY(context, '$.bot_click')) AS bot_click,
    TO_JSON_STRING(JSON_QUERY(context, '$.implied_open')) AS implied_open,
    context_user_agent AS user_agent,
    context_ip AS ip
  FROM `{dataset}.activities`
  WHERE
    type = 'track'
    AND event IN (
      'email_delivered',
      'email_opened',
      'email_unique_opens',
      'email_bounced',
      'email_reported_as_spam',
      'link_clicked',
      'unique_link_click',
      'unique_link_click_per_unique_open',
      'email_unsubscribed'
    )
  QUALIFY ROW_NUMBER() OVER (PARTITION BY workspace_id, message_id ORDER BY received_at, timestamp) = 1
)

SELECT
  calls.workspace_id,
  calls.message_id,
  calls.event,
  calls.email_event,
  calls.timestamp,
  calls.received_at,
  COALESCE(caller.person_id, recipient.person_id) AS person_id,
  calls.user_id,
  calls.anonymous_id,
  calls.email,
  calls.email_id,
  calls.campaign_id,
  calls.campaign_run_id,
  calls.campaign_name,
  calls.email_subject,
  calls.email_link_url,
  CASE calls.is_unique_open WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END AS is_unique_open,
  CASE calls.is_unique_click WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END AS is_unique_click,
  IFNULL(calls.machine_open = 'true', FALSE) AS is_machine_open,
  IFNULL(calls.bot_click = 'true', FALSE) AS is_bot_click,
  IFNULL(calls.implied_open = 'true', FALSE) AS is_implied_open,
  calls.user_agent,
  calls.ip
FROM calls
LEFT JOIN `{dataset}.current_identities` AS caller
  ON
    caller.workspace_id = calls.workspace_id
    AND caller.identifier_type = calls.identifier_type
    AND caller.identifier = calls.identifier
-- A person without a user_id is sent as the anonymousId of their own person_id, which `identities` need not know.
LEFT JOIN `{dataset}.current_identities` AS recipient
  ON
    recipient.workspace_id = calls.workspace_id
    AND recipient.identifier_type = 'email'
    AND recipient.identifier = calls.email
