-- $1 partition, $2 owner's address. Begin a new epoch: from here on no former owner can commit.
UPDATE partition SET epoch = epoch + 1, owner = $2, wanted_by = ''
WHERE partition_id = $1 RETURNING epoch, generation, mark
