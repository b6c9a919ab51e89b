"""The zoo's rows, one file a family: what is known of a norm without importing torch."""
