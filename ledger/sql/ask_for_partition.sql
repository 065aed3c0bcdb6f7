-- $1 partition, $2 address of the worker that it belongs to by plan: the present owner hands over when it sees this.
UPDATE partition SET wanted_by = $2 WHERE partition_id = $1 AND owner <> $2 AND wanted_by <> $2
