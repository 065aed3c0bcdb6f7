-- $1 account ids. Returns the heads that Redis is rebuilt from.
SELECT account_id, seq, link, state FROM account WHERE account_id = ANY ($1::bigint[])
