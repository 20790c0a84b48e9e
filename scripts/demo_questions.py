"""What the demo asks BigQuery; `{d}` is the dataset."""

QUESTIONS: tuple[tuple[str, str], ...] = (
    (
        "How did every message end?",
        "SELECT outcome, reason, SUM(count) AS messages FROM `{d}.counts` GROUP BY outcome, reason "
        "ORDER BY outcome DESC, messages DESC",
    ),
    (
        "Who are our people?",
        "SELECT first_name, emails[SAFE_OFFSET(0)] AS email, JSON_VALUE(traits, '$.plan') AS plan, "
        "anonymous_id_count AS devices FROM `{d}.persons` ORDER BY devices DESC, email LIMIT 5",
    ),
    (
        "What did they do, before and after they signed up?",
        "SELECT COALESCE(event, CONCAT('page: ', name)) AS activity, COUNT(*) AS calls, "
        "COUNT(DISTINCT person_id) AS people, "
        "COUNTIF(user_id IS NULL AND person_id IS NOT NULL) AS while_anonymous "
        "FROM `{d}.person_activities` GROUP BY activity ORDER BY calls DESC LIMIT 6",
    ),
    (
        "Which groups do we have, and who is in them?",
        "SELECT g.name AS group_name, g.industry, g.employees, COUNT(m.person_id) AS people FROM `{d}.groups` g "
        "LEFT JOIN `{d}.group_memberships` m USING (workspace_id, group_id) "
        "GROUP BY 1, 2, 3 ORDER BY people DESC, 1 LIMIT 5",
    ),
    (
        "Who is in which audience now?",
        "SELECT audience_key, COUNT(*) AS members FROM `{d}.audiences` GROUP BY audience_key",
    ),
    (
        "How did the mailing do?",
        "SELECT delivered, bounced, unique_opens AS opened, unique_clickers AS clicked, machine_opens AS by_machines, "
        "bot_clicks AS by_bots, ROUND(click_rate, 2) AS ctr, ROUND(click_to_open_rate, 2) AS ctor "
        "FROM `{d}.email_engagement`",
    ),
    (
        "Which of its links were clicked?",
        "SELECT email_link_url, clicks, bot_clicks, unique_clicks FROM `{d}.email_links` "
        "ORDER BY unique_clicks DESC, email_link_url",
    ),
)
