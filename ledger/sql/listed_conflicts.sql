-- $1 request ids, $2 terminals. Returns what stands on the operators' list of these pairs, settled or not, with why it was declined.
SELECT c.request_id, c.terminal_id, c.outcome
FROM unnest($1::bytea[], $2::integer[]) AS asked (request_id, terminal_id) JOIN office.conflict c USING (request_id, terminal_id)
