-- Every group (account, company) with the latest value of each trait.
-- Grain: one row a (workspace_id, group_id), whoever sent the calls.
-- A trait's value is the one sent last by event time, as in `persons`: null clears it, an object with all that was nested in
-- it, and a call that does not send it keeps it.
-- `traits` holds every trait; the reserved ones are columns as well, NULL where the value does not fit the column's type.
-- first_seen_at and last_seen_at are the event times of the first and the last group call.
-- Cost: reads the trait columns of all days of `group_identifies`.
WITH
calls AS (
  -- By name and not `*`, from which bqemulator loses columns that are records.
  SELECT
    workspace_id,
    message_id,
    group_id,
    timestamp,
    received_at,
    trait_updates,
    address_city,
    address_country,
    address_postal_code,
    address_state,
    address_street,
    avatar,
    created_at,
    description,
    email,
    employees,
    industry,
    name,
    phone,
    plan,
    website,
    ROW_NUMBER() OVER (PARTITION BY workspace_id, group_id ORDER BY timestamp, received_at, message_id) AS turn
  FROM `{dataset}.group_identifies`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY workspace_id, message_id ORDER BY received_at, timestamp) = 1
),

latest AS (
  SELECT
    calls.*,
    trait.name AS trait_name,
    trait.value AS trait_value,
    MAX(IF(trait.value = 'null', calls.turn, NULL)) OVER (
      PARTITION BY calls.workspace_id, calls.group_id, trait.name
    ) AS cleared,
    COUNT(IF(trait.value IN ('null', '{}'), NULL, 1)) OVER (
      PARTITION BY calls.workspace_id, calls.group_id, trait.name
    ) AS own_values
  FROM calls
  CROSS JOIN UNNEST(calls.trait_updates) AS trait
  WHERE TRUE
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY calls.workspace_id, calls.group_id, trait.name
      ORDER BY calls.turn DESC
    ) = 1
),

-- A trait that never had a value of its own was an object, if it was anything: null clears what was flattened from it.
cleared_parts AS (
  SELECT DISTINCT
    part.workspace_id,
    part.group_id,
    part.trait_name
  FROM latest AS part
  INNER JOIN latest AS whole
    ON
      whole.workspace_id = part.workspace_id
      AND whole.group_id = part.group_id
      AND whole.own_values = 0
      AND whole.cleared > part.turn
      AND STARTS_WITH(part.trait_name, CONCAT(whole.trait_name, '_'))
),

kept AS (
  SELECT latest.*
  FROM latest
  LEFT JOIN cleared_parts
    ON
      cleared_parts.workspace_id = latest.workspace_id
      AND cleared_parts.group_id = latest.group_id
      AND cleared_parts.trait_name = latest.trait_name
  WHERE cleared_parts.trait_name IS NULL
),

folded AS (
  SELECT
    workspace_id,
    group_id,
    MAX(IF(trait_name = 'address_city', address_city, NULL)) AS address_city,
    MAX(IF(trait_name = 'address_country', address_country, NULL)) AS address_country,
    MAX(IF(trait_name = 'address_postal_code', address_postal_code, NULL)) AS address_postal_code,
    MAX(IF(trait_name = 'address_state', address_state, NULL)) AS address_state,
    MAX(IF(trait_name = 'address_street', address_street, NULL)) AS address_street,
    MAX(IF(trait_name = 'avatar', avatar, NULL)) AS avatar,
    MAX(IF(trait_name = 'created_at', created_at, NULL)) AS created_at,
    MAX(IF(trait_name = 'description', description, NULL)) AS description,
    MAX(IF(trait_name = 'email', email, NULL)) AS email,
    MAX(IF(trait_name = 'employees', employees, NULL)) AS employees,
    MAX(IF(trait_name = 'industry', industry, NULL)) AS industry,
    MAX(IF(trait_name = 'name', name, NULL)) AS name,
    MAX(IF(trait_name = 'phone', phone, NULL)) AS phone,
    MAX(IF(trait_name = 'plan', plan, NULL)) AS plan,
    MAX(IF(trait_name = 'website', website, NULL)) AS website,
    -- A trait's own row holds its column; of one row there is one value, which MAX takes out of the NULLs.
    STRING_AGG(
      IF(trait_value = 'null', NULL, TO_JSON_STRING(trait_name) || ':' || trait_value), ',' ORDER BY trait_name
    ) AS members
  FROM kept
  GROUP BY workspace_id, group_id
),

spans AS (
  SELECT
    workspace_id,
    group_id,
    MIN(timestamp) AS first_seen_at,
    MAX(timestamp) AS last_seen_at
  FROM calls
  GROUP BY workspace_id, group_id
)

SELECT
  spans.workspace_id,
  spans.group_id,
  spans.first_seen_at,
  spans.last_seen_at,
  folded.address_city,
  folded.address_country,
  folded.address_postal_code,
  folded.address_state,
  folded.address_street,
  folded.avatar,
  folded.created_at,
  folded.description,
  folded.email,
  folded.employees,
  folded.industry,
  folded.name,
  folded.phone,
  folded.plan,
  folded.website,
  SAFE.PARSE_JSON('{' || IFNULL(folded.members, '') || '}', wide_number_mode => 'round') AS traits
FROM spans
LEFT JOIN folded
  ON folded.workspace_id = spans.workspace_id AND folded.group_id = spans.group_id
