-- Returns the programme's version beside the owner of every partition: what each worker looks at once a second.
SELECT p.version, o.partition_id, o.owner FROM programme p CROSS JOIN partition o
