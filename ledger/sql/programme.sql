-- Returns the programme with every network and all its rules, in one consistent snapshot; without networks one row of nulls.
SELECT p.version, p.time_zone, n.network_id, n.partner_id, n.name, n.currency, r.valid_from_ms, r.earn_rate_bp, r.activation_days, r.expiry_days,
    r.expiry_months, r.expiry_at_month_end, r.redeem_min, r.redeem_max, r.share_bp, r.day_points_max, r.day_count_max, r.terminal_day_points_max,
    r.hold_default_ms, r.hold_max_ms, r.holds_max, r.greeting, r.slip
FROM programme p LEFT JOIN network n ON true LEFT JOIN rules r USING (network_id)
ORDER BY n.network_id, r.valid_from_ms
