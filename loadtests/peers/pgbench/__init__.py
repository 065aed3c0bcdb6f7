"""PostgreSQL alone: pgbench calls one SQL function that does the job of a redemption."""
