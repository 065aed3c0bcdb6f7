"""What holds for receipts: rules in versions, their preview, the time zone."""
