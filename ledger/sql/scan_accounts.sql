-- $1 an account, $2 limit: the accounts behind it in order, each with its cards as a flat list of token and status (status as one byte).
SELECT a.account_id, a.seq, a.link, a.balance, a.held, a.owed, a.due_ms, a.state,
    array(SELECT c.token || set_byte('\x00'::bytea, 0, c.status) FROM card c WHERE c.account_id = a.account_id) AS cards
FROM account a WHERE a.account_id > $1 ORDER BY a.account_id LIMIT $2
