-- How each campaign run did, from the nine email events that our email log pipeline sends through Segment.
-- Grain: one row a (workspace_id, campaign_run_id). Mail that belongs to no run, such as receipts, has one row a
-- (workspace_id, campaign_id) with a NULL campaign_run_id, and one with both NULL for mail of no campaign.
-- campaign_id and campaign_name are the latest that the run's events carry, by event time. first_event_at and
-- last_event_at are event times. delivered, opens, clicks, bounced, reported_as_spam and unsubscribed count events, each
-- message_id once; opens are human_opens and machine_opens together, clicks human_clicks and bot_clicks. recipients are
-- the people that something was delivered to.
-- What is unique counts people, never events: a human is today's person, else the email, so two persons who turned out to
-- be one count once, also where both opened. unique_opens: people per email who opened it. unique_clickers: people per
-- email who clicked it. unique_clicks: people per email and link. unique_clicks_per_unique_open: people per email who
-- opened and clicked it. Machines and bots are in none of the four.
-- open_rate = unique_opens / delivered. click_rate (CTR) = unique_clickers / delivered: people, not links, so whoever
-- clicks three links counts once. click_to_open_rate (CTOR) = unique_clicks_per_unique_open / unique_opens. bounce_rate =
-- bounced / (delivered + bounced). spam_rate = reported_as_spam / delivered. unsubscribe_rate = unsubscribed / delivered.
-- A rate is NULL while its divisor is 0; it is above 1 only where events are missing or repeat, as of mail that was
-- delivered before the logs began.
-- Cost: that of `email_activities`, whichever runs you ask for: a run stands in the JSON, so a filter on it or on the
-- times reads no less. For dashboards, materialise it once a day.
WITH
-- A human's share in one email: what makes the uniques distinct.
readers AS (
  SELECT
    workspace_id,
    campaign_run_id,
    IF(campaign_run_id IS NULL, campaign_id, NULL) AS campaign_of_no_run,
    COALESCE(person_id, email, user_id, anonymous_id) AS human,
    email_id,
    -- The time in front, always 26 characters long, so that the greatest is the latest; NULL without a name.
    MAX(FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6S', timestamp) || campaign_id) AS dated_campaign_id,
    MAX(FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6S', timestamp) || campaign_name) AS dated_campaign_name,
    MIN(timestamp) AS first_event_at,
    MAX(timestamp) AS last_event_at,
    COUNTIF(event = 'email_delivered') AS delivered,
    COUNTIF(event = 'email_opened') AS opens,
    COUNTIF(event = 'email_opened' AND is_machine_open) AS machine_opens,
    LOGICAL_OR(event = 'email_unique_opens') AS has_unique_open,
    COUNTIF(event = 'link_clicked') AS clicks,
    COUNTIF(event = 'link_clicked' AND is_bot_click) AS bot_clicks,
    -- A click whose link is not known is a link of its own.
    COUNT(DISTINCT IF(event = 'unique_link_click', IFNULL('to ' || email_link_url, ''), NULL)) AS unique_clicks,
    LOGICAL_OR(event = 'unique_link_click_per_unique_open') AS has_unique_click_per_unique_open,
    COUNTIF(event = 'email_bounced') AS bounced,
    COUNTIF(event = 'email_reported_as_spam') AS reported_as_spam,
    COUNTIF(event = 'email_unsubscribed') AS unsubscribed
  FROM `{dataset}.email_activities`
  GROUP BY workspace_id, campaign_run_id, campaign_of_no_run, human, email_id
),

runs AS (
  SELECT
    workspace_id,
    campaign_run_id,
    SUBSTR(MAX(dated_campaign_id), 27) AS campaign_id,
    SUBSTR(MAX(dated_campaign_name), 27) AS campaign_name,
    MIN(first_event_at) AS first_event_at,
    MAX(last_event_at) AS last_event_at,
    COUNT(DISTINCT IF(delivered > 0, human, NULL)) AS recipients,
    SUM(delivered) AS delivered,
    SUM(opens) AS opens,
    SUM(opens - machine_opens) AS human_opens,
    SUM(machine_opens) AS machine_opens,
    COUNTIF(has_unique_open) AS unique_opens,
    SUM(clicks) AS clicks,
    SUM(clicks - bot_clicks) AS human_clicks,
    SUM(bot_clicks) AS bot_clicks,
    SUM(unique_clicks) AS unique_clicks,
    COUNTIF(unique_clicks > 0) AS unique_clickers,
    COUNTIF(has_unique_click_per_unique_open) AS unique_clicks_per_unique_open,
    SUM(bounced) AS bounced,
    SUM(reported_as_spam) AS reported_as_spam,
    SUM(unsubscribed) AS unsubscribed
  FROM readers
  GROUP BY workspace_id, campaign_run_id, campaign_of_no_run
)

SELECT
  *,
  SAFE_DIVIDE(unique_opens, delivered) AS open_rate,
  SAFE_DIVIDE(unique_clickers, delivered) AS click_rate,
  SAFE_DIVIDE(unique_clicks_per_unique_open, unique_opens) AS click_to_open_rate,
  SAFE_DIVIDE(bounced, delivered + bounced) AS bounce_rate,
  SAFE_DIVIDE(reported_as_spam, delivered) AS spam_rate,
  SAFE_DIVIDE(unsubscribed, delivered) AS unsubscribe_rate
FROM runs
