-- $1 account ids. Returns encrypted greeting names.
SELECT account_id, greeting FROM personal.member WHERE account_id = ANY ($1::bigint[]) AND greeting IS NOT NULL
