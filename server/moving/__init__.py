"""Moving in and out: members, cards and balances from files of another system, and everything into files again."""
