-- Which links of an email were clicked, and by how many people.
-- Grain: one row a (workspace_id, campaign_run_id, email_id, email_link_url) that was clicked at least once, by whomever.
-- Mail that belongs to no run has a NULL campaign_run_id and its rows a campaign_id, as in `email_engagement`; clicks
-- whose link is not known have a NULL email_link_url. A link is told by its whole URL as it was logged.
-- campaign_id and campaign_name are the run's latest, as in `email_engagement`. clicks count events, each message_id once:
-- human_clicks and bot_clicks together. unique_clicks are the people who clicked the link in this email, a human being
-- today's person, else the email; no bots. Over a run's links they add up to its unique_clicks in `email_engagement`.
-- first_clicked_at and last_clicked_at are event times, of humans and bots. unique_click_share is the link's part of the
-- email's unique_clicks: the shares of an email's links add up to 1; NULL while no human clicked any of them.
-- Cost: that of `email_activities`, whichever links you ask for: a run and a link stand in the JSON, so a filter on them
-- or on the times reads no less. For dashboards, materialise it once a day.
WITH
-- All events and not the clicks alone, for the latest name of the run.
readers AS (
  SELECT
    workspace_id,
    campaign_run_id,
    IF(campaign_run_id IS NULL, campaign_id, NULL) AS campaign_of_no_run,
    COALESCE(person_id, email, user_id, anonymous_id) AS human,
    email_id,
    email_link_url,
    -- The time in front, always 26 characters long, so that the greatest is the latest; NULL without a name.
    MAX(FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6S', timestamp) || campaign_id) AS dated_campaign_id,
    MAX(FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6S', timestamp) || campaign_name) AS dated_campaign_name,
    COUNTIF(event = 'link_clicked') AS clicks,
    COUNTIF(event = 'link_clicked' AND is_bot_click) AS bot_clicks,
    LOGICAL_OR(event = 'unique_link_click') AS has_unique_click,
    MIN(IF(event IN ('link_clicked', 'unique_link_click'), timestamp, NULL)) AS first_clicked_at,
    MAX(IF(event IN ('link_clicked', 'unique_link_click'), timestamp, NULL)) AS last_clicked_at
  FROM `{dataset}.email_activities`
  GROUP BY workspace_id, campaign_run_id, campaign_of_no_run, human, email_id, email_link_url
),

links AS (
  SELECT
    workspace_id,
    campaign_run_id,
    campaign_of_no_run,
    email_id,
    email_link_url,
    MAX(dated_campaign_id) AS dated_campaign_id,
    MAX(dated_campaign_name) AS dated_campaign_name,
    SUM(clicks) AS clicks,
    SUM(clicks - bot_clicks) AS human_clicks,
    SUM(bot_clicks) AS bot_clicks,
    COUNTIF(has_unique_click) AS unique_clicks,
    MIN(first_clicked_at) AS first_clicked_at,
    MAX(last_clicked_at) AS last_clicked_at
  FROM readers
  GROUP BY workspace_id, campaign_run_id, campaign_of_no_run, email_id, email_link_url
),

named AS (
  SELECT
    *,
    MAX(dated_campaign_id) OVER run AS last_campaign_id,
    MAX(dated_campaign_name) OVER run AS last_campaign_name,
    SUM(unique_clicks) OVER email AS unique_clicks_of_email
  FROM links
  WINDOW
    run AS (PARTITION BY workspace_id, campaign_run_id, campaign_of_no_run),
    email AS (PARTITION BY workspace_id, campaign_run_id, campaign_of_no_run, email_id)
)

SELECT
  workspace_id,
  campaign_run_id,
  SUBSTR(last_campaign_id, 27) AS campaign_id,
  SUBSTR(last_campaign_name, 27) AS campaign_name,
  email_id,
  email_link_url,
  clicks,
  human_clicks,
  bot_clicks,
  unique_clicks,
  SAFE_DIVIDE(unique_clicks, unique_clicks_of_email) AS unique_click_share,
  first_clicked_at,
  last_clicked_at
FROM named
WHERE first_clicked_at IS NOT NULL
