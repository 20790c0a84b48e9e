-- How each campaign run did, from the nine email events that our email log pipeline sends through Segment.
-- Grain: one row a (workspace_id, campaign_run_id); campaign_id and campaign_name are the latest that the events carry.
-- An open or click counts as unique once a person, run and email (a click: and link); unique_clicks_per_unique_open counts
-- once a person, run and email that has both. opens and clicks count repeats and machines too.
-- open_rate = unique_opens / delivered; click_rate = unique_clicks / delivered; click_to_open_rate =
-- unique_clicks_per_unique_open / unique_opens, so never above 1. A rate is NULL while its divisor is 0.
-- Cost: reads `event`, `properties` and five short columns of all days of `activities`; JSON is the wide one.
WITH
events AS (
  SELECT
    workspace_id,
    message_id,
    event,
    timestamp,
    received_at,
    JSON_VALUE(properties, '$.campaign_run_id') AS campaign_run_id,
    JSON_VALUE(properties, '$.campaign_id') AS campaign_id,
    JSON_VALUE(properties, '$.campaign_name') AS campaign_name
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
),

named AS (
  SELECT
    workspace_id,
    event,
    campaign_run_id,
    FIRST_VALUE(campaign_id IGNORE NULLS) OVER newest_first AS campaign_id,
    FIRST_VALUE(campaign_name IGNORE NULLS) OVER newest_first AS campaign_name
  FROM events
  WHERE campaign_run_id IS NOT NULL
  WINDOW newest_first AS (
    PARTITION BY workspace_id, campaign_run_id
    ORDER BY timestamp DESC, received_at DESC, message_id DESC
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
  )
),

runs AS (
  SELECT
    workspace_id,
    campaign_run_id,
    campaign_id,
    campaign_name,
    COUNTIF(event = 'email_delivered') AS delivered,
    COUNTIF(event = 'email_opened') AS opens,
    COUNTIF(event = 'email_unique_opens') AS unique_opens,
    COUNTIF(event = 'link_clicked') AS clicks,
    COUNTIF(event = 'unique_link_click') AS unique_clicks,
    COUNTIF(event = 'unique_link_click_per_unique_open') AS unique_clicks_per_unique_open,
    COUNTIF(event = 'email_bounced') AS bounced,
    COUNTIF(event = 'email_reported_as_spam') AS reported_as_spam,
    COUNTIF(event = 'email_unsubscribed') AS unsubscribed
  FROM named
  GROUP BY workspace_id, campaign_run_id, campaign_id, campaign_name
)

SELECT
  *,
  SAFE_DIVIDE(unique_opens, delivered) AS open_rate,
  SAFE_DIVIDE(unique_clicks, delivered) AS click_rate,
  SAFE_DIVIDE(unique_clicks_per_unique_open, unique_opens) AS click_to_open_rate
FROM runs
