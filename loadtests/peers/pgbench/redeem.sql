-- The whole redemption inside PostgreSQL: look the request up, check and change the balance, journal.
-- Arguments: request id, account, terminal, points (minor units). Result: the stored answer; one byte 01 when points are missing.
-- The same id twice at the same time: the unique index stops the second, whose retry finds the answer of the first.
CREATE FUNCTION redeem(asked_request uuid, asked_account bigint, asked_terminal integer, asked_points bigint)
RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    told bytea;
    new_seq bigint;
    new_balance bigint;
BEGIN
    SELECT answer INTO told FROM entry WHERE request_id = asked_request;
    IF FOUND THEN
        RETURN told;
    END IF;
    UPDATE account SET balance = balance - asked_points, seq = seq + 1
        WHERE account_id = asked_account AND balance >= asked_points
        RETURNING seq, balance INTO new_seq, new_balance;
    IF NOT FOUND THEN
        RETURN '\x01'::bytea;
    END IF;
    told := '\x00'::bytea || int8send(asked_points) || int8send(new_balance);
    INSERT INTO entry (account_id, seq, request_id, terminal_id, points, balance_after, answer)
        VALUES (asked_account, new_seq, asked_request, asked_terminal, asked_points, new_balance, told);
    RETURN told;
END $$;
