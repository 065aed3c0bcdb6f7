-- $1, $2 accounts: all entries behind the first one up to the second, in the order of the journal.
SELECT * FROM entry WHERE account_id > $1 AND account_id <= $2 ORDER BY account_id, seq
