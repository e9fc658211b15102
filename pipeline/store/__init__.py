"""The store wing: shards, the ledger, and what lies on disk."""
