-- $1 tokens. Returns where they lead; `pristine` says that the account behind has never had an entry, `former` that the card was taken from an account
-- once (UNLINK, 51), maybe another one.
SELECT c.token, c.account_id, c.status, a.seq = 0 AS pristine,
    EXISTS (SELECT FROM entry u WHERE u.op = 51 AND u.cards = '\x92b0'::bytea || c.token || '\x04'::bytea) AS former
FROM card c JOIN account a USING (account_id) WHERE c.token = ANY ($1::bytea[])
