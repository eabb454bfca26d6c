"""The ledger: one small SQL database that holds the truth about runs, and the step cache."""
