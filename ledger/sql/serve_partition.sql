-- $1 partition, $2 epoch, $3 whether in the owner's memory. The owner has caught up and decides from now on. Returns who wants the partition; no row when another
-- owner has begun.
UPDATE partition SET served = epoch, served_by = owner, standby = $3 WHERE partition_id = $1 AND epoch = $2 RETURNING wanted_by
