-- $1 partition, $2 epoch. The owner has caught up and decides from now on. Returns who wants the partition; no row when another owner has begun.
UPDATE partition SET served = epoch WHERE partition_id = $1 AND epoch = $2 RETURNING wanted_by
