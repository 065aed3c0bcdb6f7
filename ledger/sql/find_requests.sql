-- $1 request ids. Returns what is journaled under them: the stored answers for replays. A tombstone has no fingerprint.
SELECT request_id, account_id, op, fingerprint, answer FROM entry WHERE request_id = ANY ($1::bytea[])
