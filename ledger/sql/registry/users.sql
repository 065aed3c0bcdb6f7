-- People who sign in, and the links by which they come to do so. All times in ms since 1970.

-- name: add
-- $1 e-mail, $2 name, $3 role, $4 partner or null, $5 language, $6 now. Returns the id.
INSERT INTO office.console_user (email, name, role, partner_id, language, created_ms) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING user_id

-- name: by_email
-- $1 e-mail, in any case.
SELECT user_id, email, name, role, partner_id, language, password_hash, totp_secret, active, failures, locked_until_ms, created_ms
FROM office.console_user WHERE lower(email) = lower($1)

-- name: by_id
-- $1 id.
SELECT user_id, email, name, role, partner_id, language, password_hash, totp_secret, active, failures, locked_until_ms, created_ms
FROM office.console_user WHERE user_id = $1

-- name: locked_by_id
-- $1 id. Nobody else changes it until the transaction ends.
SELECT user_id, email, name, role, partner_id, language, password_hash, totp_secret, active, failures, locked_until_ms, created_ms
FROM office.console_user WHERE user_id = $1 FOR UPDATE

-- name: standing
-- $1 id. Returns role and partner of a user who is not suspended; they stay so until the transaction ends.
SELECT role, partner_id FROM office.console_user WHERE user_id = $1 AND active FOR SHARE

-- name: list
-- $1 partner or null for all, $2 begin after this id, $3 most rows.
SELECT user_id, email, name, role, partner_id, language, password_hash IS NOT NULL AS accepted, active, locked_until_ms, created_ms
FROM office.console_user WHERE ($1::integer IS NULL OR partner_id = $1) AND user_id > $2::bigint ORDER BY user_id LIMIT $3

-- name: change
-- $1 id, $2 name, $3 role, $4 partner or null, $5 language, $6 active.
UPDATE office.console_user SET name = $2, role = $3, partner_id = $4, language = $5, active = $6 WHERE user_id = $1

-- name: owners
-- Returns who could still let others in; nobody else changes them until the transaction ends.
SELECT user_id FROM office.console_user WHERE role = 'owner' AND active AND password_hash IS NOT NULL
ORDER BY user_id FOR UPDATE

-- name: owner_can_sign_in
SELECT EXISTS (SELECT FROM office.console_user WHERE role = 'owner' AND active AND password_hash IS NOT NULL)

-- name: count_attempt
-- $1 id, $2 now, $3 failures until the lock, $4 end of a lock that begins now. Counts an attempt before it is looked at; returns nothing when
-- the user is locked. The attempt that is one too many begins the lock, and the next one after that begins to count anew.
UPDATE office.console_user SET
    failures = CASE WHEN failures >= $3 THEN 1 ELSE failures + 1 END,
    locked_until_ms = CASE WHEN CASE WHEN failures >= $3 THEN 1 ELSE failures + 1 END = $3 THEN $4::bigint ELSE 0 END
WHERE user_id = $1 AND locked_until_ms <= $2 RETURNING user_id

-- name: take_step
-- $1 id, $2 step of a code. Returns nothing when that step, or a later one, was used before.
UPDATE office.console_user SET totp_step = $2 WHERE user_id = $1 AND totp_step < $2 RETURNING user_id

-- name: signed_in
-- $1 id.
UPDATE office.console_user SET failures = 0, locked_until_ms = 0 WHERE user_id = $1

-- name: rehash
-- $1 id, $2 old hash, $3 new hash.
UPDATE office.console_user SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2

-- name: set_credentials
-- $1 id, $2 password hash, $3 TOTP secret, $4 step of the code that proved it.
UPDATE office.console_user SET password_hash = $2, totp_secret = $3, totp_step = $4, failures = 0, locked_until_ms = 0
WHERE user_id = $1

-- name: void_invitations
-- $1 user.
DELETE FROM office.invitation WHERE user_id = $1

-- name: add_invitation
-- $1 hash, $2 user, $3 now, $4 end.
INSERT INTO office.invitation (hash, user_id, created_ms, expires_ms) VALUES ($1, $2, $3, $4)

-- name: invitation
-- $1 hash, $2 now. Returns the user whom a link in force is for.
SELECT u.user_id, u.email, u.name, u.role, u.partner_id, u.language, i.expires_ms
FROM office.invitation i JOIN office.console_user u USING (user_id)
WHERE i.hash = $1 AND i.expires_ms > $2 AND i.used_ms IS NULL AND u.active

-- name: use_invitation
-- $1 hash, $2 now. Returns the user, once.
UPDATE office.invitation i SET used_ms = $2 FROM office.console_user u
WHERE i.hash = $1 AND i.expires_ms > $2 AND i.used_ms IS NULL AND u.user_id = i.user_id AND u.active RETURNING i.user_id
