-- $1 terminal, $2 day. Returns what the terminal spent on that day, or no row.
SELECT spent FROM terminal_day WHERE terminal_id = $1 AND day = $2
