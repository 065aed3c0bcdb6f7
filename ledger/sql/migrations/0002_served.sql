-- The last epoch whose owner began to decide. A Redis that no owner since then has claimed may show a history that never came to be.
ALTER TABLE partition ADD COLUMN served bigint NOT NULL DEFAULT 0;
