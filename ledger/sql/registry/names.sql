-- What people and programs are called that stand in rows as "user:3" or "token:7".

-- name: users
-- $1 ids.
SELECT user_id AS id, name FROM office.console_user WHERE user_id = ANY ($1::integer[])

-- name: tokens
-- $1 ids.
SELECT token_id AS id, name FROM office.api_token WHERE token_id = ANY ($1::integer[])
