-- The last epoch whose owner began to decide. A Redis that no owner since then has claimed may show a history that never came to be.
ALTER TABLE partition ADD COLUMN served bigint NOT NULL DEFAULT 0;
-- Whose epoch that was, and whether it decides in that owner's memory instead of Redis.
ALTER TABLE partition ADD COLUMN served_by text NOT NULL DEFAULT '';
ALTER TABLE partition ADD COLUMN standby boolean NOT NULL DEFAULT false;
