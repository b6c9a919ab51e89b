"""Shows findings and runs: tables on a terminal, a JSON document. Decides nothing."""
