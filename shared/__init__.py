"""What api, worker and cli have in common: the schema, the ledger's SQL, the projection's scripts, settings."""
