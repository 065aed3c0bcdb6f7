-- $1 partition, $2 epoch: whatever Redis remembers of this partition is void from now on.
UPDATE partition SET generation = another_generation(generation) WHERE partition_id = $1 AND epoch = $2 RETURNING generation
