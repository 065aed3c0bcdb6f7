-- $1 request ids of MERGE_OUTs. Returns those that a MERGE_IN (48) has taken in.
SELECT target FROM entry WHERE op = 48 AND target = ANY ($1::bytea[])
