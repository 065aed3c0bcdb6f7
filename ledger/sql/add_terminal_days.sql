-- $1 terminals, $2 days, $3 points: add what limited terminals spent; the caller sorts the rows, so that writers cannot deadlock.
INSERT INTO terminal_day AS d (terminal_id, day, spent)
SELECT * FROM unnest($1::integer[], $2::integer[], $3::bigint[])
ON CONFLICT (terminal_id, day) DO UPDATE SET spent = d.spent + excluded.spent
