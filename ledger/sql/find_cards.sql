-- $1 tokens. Returns where they lead; `pristine` says that the account behind has never had an entry.
SELECT c.token, c.account_id, c.status, a.seq = 0 AS pristine FROM card c JOIN account a USING (account_id) WHERE c.token = ANY ($1::bytea[])
