-- $1 partition, $2 owner's address. Begin a new epoch: from here on no former owner can commit. Returns also who decided last, and whether without Redis.
UPDATE partition SET epoch = epoch + 1, owner = $2, wanted_by = ''
WHERE partition_id = $1 RETURNING epoch, generation, mark, served, served_by, standby
