-- $1 now in ms, $2 partitions, $3 partition, $4 limit. Returns accounts of which a hold or a lot has run out, longest overdue first.
SELECT account_id FROM account WHERE due_ms <= $1 AND account_id % $2 = $3 ORDER BY due_ms LIMIT $4
