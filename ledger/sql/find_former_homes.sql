-- $1 tokens, $2 request ids. Returns those pairs of which the request is journaled and the card was taken from an account once (UNLINK, 51; its cards are
-- the MessagePack of [token, 4]): the request's account, and the one that the card was taken from.
SELECT g.token, g.request_id, e.account_id, u.account_id AS taken_from
FROM unnest($1::bytea[], $2::bytea[]) AS g (token, request_id)
JOIN entry e ON e.request_id = g.request_id
JOIN entry u ON u.op = 51 AND u.cards = '\x92b0'::bytea || g.token || '\x04'::bytea
