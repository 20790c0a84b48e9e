-- Every person of today with the latest value of each trait.
-- Grain: one row a (workspace_id, person_id); also people who are known by their identifiers only.
-- A trait's value is the one sent last by event time (`timestamp`), whatever arrived last; null clears it, a call that does
-- not send it keeps it. `traits` holds every trait, your own ones too, named in snake_case with `_` between the levels.
-- null for an object clears all that was nested in it: `prefs`: null ends an earlier `prefs_color`. Whether that was nested or
-- a trait of the top level, its name does not tell, so both end; neither does if `prefs` has had a value of its own, one that
-- is no object, in any call of the person: null for a phone number ends no `phone_verified`.
-- The reserved ones are columns as well, as the pipeline read them: NULL where the value does not fit the column's type, and
-- for values that were sent before the column was added. The JSON has them all.
-- Cost: reads the trait columns of all days of `identifies`, and `identities`. For dashboards, materialise it once a day.
WITH
calls AS (
  -- By name and not `*`, from which bqemulator loses columns that are records.
  SELECT
    workspace_id,
    message_id,
    identifier_type,
    identifier,
    timestamp,
    received_at,
    trait_updates,
    address_city,
    address_country,
    address_postal_code,
    address_state,
    address_street,
    age,
    avatar,
    birthday,
    company_id,
    company_name,
    company_industry,
    company_employee_count,
    company_plan,
    created_at,
    description,
    email,
    first_name,
    gender,
    last_name,
    name,
    phone,
    title,
    username,
    website
  FROM `{dataset}.identifies`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY workspace_id, message_id ORDER BY received_at, timestamp) = 1
),

person_calls AS (
  -- By name and not `*`, from which bqemulator loses columns that are records.
  SELECT
    today.person_id,
    calls.*,
    ROW_NUMBER() OVER (
      PARTITION BY calls.workspace_id, today.person_id
      ORDER BY calls.timestamp, calls.received_at, calls.message_id
    ) AS turn
  FROM calls
  INNER JOIN `{dataset}.current_identities` AS today
    ON
      today.workspace_id = calls.workspace_id
      AND today.identifier_type = calls.identifier_type
      AND today.identifier = calls.identifier
),

latest AS (
  SELECT
    person_calls.*,
    trait.name AS trait_name,
    trait.value AS trait_value,
    MAX(IF(trait.value = 'null', person_calls.turn, NULL)) OVER (
      PARTITION BY person_calls.workspace_id, person_calls.person_id, trait.name
    ) AS cleared,
    COUNT(IF(trait.value IN ('null', '{}'), NULL, 1)) OVER (
      PARTITION BY person_calls.workspace_id, person_calls.person_id, trait.name
    ) AS own_values
  FROM person_calls
  CROSS JOIN UNNEST(person_calls.trait_updates) AS trait
  WHERE TRUE
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY person_calls.workspace_id, person_calls.person_id, trait.name
      ORDER BY person_calls.turn DESC
    ) = 1
),

-- A trait that never had a value of its own was an object, if it was anything: null clears what was flattened from it.
cleared_parts AS (
  SELECT DISTINCT
    part.workspace_id,
    part.person_id,
    part.trait_name
  FROM latest AS part
  INNER JOIN latest AS whole
    ON
      whole.workspace_id = part.workspace_id
      AND whole.person_id = part.person_id
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
      AND cleared_parts.person_id = latest.person_id
      AND cleared_parts.trait_name = latest.trait_name
  WHERE cleared_parts.trait_name IS NULL
),

folded AS (
  SELECT
    workspace_id,
    person_id,
    MAX(IF(trait_name = 'address_city', address_city, NULL)) AS address_city,
    MAX(IF(trait_name = 'address_country', address_country, NULL)) AS address_country,
    MAX(IF(trait_name = 'address_postal_code', address_postal_code, NULL)) AS address_postal_code,
    MAX(IF(trait_name = 'address_state', address_state, NULL)) AS address_state,
    MAX(IF(trait_name = 'address_street', address_street, NULL)) AS address_street,
    MAX(IF(trait_name = 'age', age, NULL)) AS age,
    MAX(IF(trait_name = 'avatar', avatar, NULL)) AS avatar,
    MAX(IF(trait_name = 'birthday', birthday, NULL)) AS birthday,
    MAX(IF(trait_name = 'company_id', company_id, NULL)) AS company_id,
    MAX(IF(trait_name = 'company_name', company_name, NULL)) AS company_name,
    MAX(IF(trait_name = 'company_industry', company_industry, NULL)) AS company_industry,
    MAX(IF(trait_name = 'company_employee_count', company_employee_count, NULL)) AS company_employee_count,
    MAX(IF(trait_name = 'company_plan', company_plan, NULL)) AS company_plan,
    MAX(IF(trait_name = 'created_at', created_at, NULL)) AS created_at,
    MAX(IF(trait_name = 'description', description, NULL)) AS description,
    MAX(IF(trait_name = 'email', email, NULL)) AS email,
    MAX(IF(trait_name = 'first_name', first_name, NULL)) AS first_name,
    MAX(IF(trait_name = 'gender', gender, NULL)) AS gender,
    MAX(IF(trait_name = 'last_name', last_name, NULL)) AS last_name,
    MAX(IF(trait_name = 'name', name, NULL)) AS name,
    MAX(IF(trait_name = 'phone', phone, NULL)) AS phone,
    MAX(IF(trait_name = 'title', title, NULL)) AS title,
    MAX(IF(trait_name = 'username', username, NULL)) AS username,
    MAX(IF(trait_name = 'website', website, NULL)) AS website,
    -- A trait's own row holds its column; of one row there is one value, which MAX takes out of the NULLs.
    STRING_AGG(
      IF(trait_value = 'null', NULL, TO_JSON_STRING(trait_name) || ':' || trait_value), ',' ORDER BY trait_name
    ) AS members
  FROM kept
  GROUP BY workspace_id, person_id
),

spans AS (
  SELECT
    workspace_id,
    person_id,
    MIN(timestamp) AS first_identified_at,
    MAX(timestamp) AS last_identified_at
  FROM person_calls
  GROUP BY workspace_id, person_id
),

people AS (
  SELECT
    workspace_id,
    person_id,
    ARRAY_AGG(IF(identifier_type = 'email', identifier, NULL) IGNORE NULLS ORDER BY identifier) AS emails,
    ARRAY_AGG(IF(identifier_type = 'user_id', identifier, NULL) IGNORE NULLS ORDER BY identifier) AS user_ids,
    COUNTIF(identifier_type = 'anonymous_id') AS anonymous_id_count
  FROM `{dataset}.current_identities`
  GROUP BY workspace_id, person_id
)

SELECT
  people.workspace_id,
  people.person_id,
  IFNULL(people.emails, ARRAY<STRING>[]) AS emails,
  IFNULL(people.user_ids, ARRAY<STRING>[]) AS user_ids,
  people.anonymous_id_count,
  spans.first_identified_at,
  spans.last_identified_at,
  folded.address_city,
  folded.address_country,
  folded.address_postal_code,
  folded.address_state,
  folded.address_street,
  folded.age,
  folded.avatar,
  folded.birthday,
  folded.company_id,
  folded.company_name,
  folded.company_industry,
  folded.company_employee_count,
  folded.company_plan,
  folded.created_at,
  folded.description,
  folded.email,
  folded.first_name,
  folded.gender,
  folded.last_name,
  folded.name,
  folded.phone,
  folded.title,
  folded.username,
  folded.website,
  SAFE.PARSE_JSON('{' || IFNULL(folded.members, '') || '}', wide_number_mode => 'round') AS traits
FROM people
LEFT JOIN spans
  ON spans.workspace_id = people.workspace_id AND spans.person_id = people.person_id
LEFT JOIN folded
  ON folded.workspace_id = people.workspace_id AND folded.person_id = people.person_id
