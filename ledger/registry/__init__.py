"""What operators keep in PostgreSQL beside the journal: coalition, people, cards, rules, who may come in, who did what.

Nothing here changes an account: that is decided by the ledger, for operators as for registers.
"""
