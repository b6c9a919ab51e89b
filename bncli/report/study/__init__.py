"""What `bncli compare` and `bncli train` show and write."""
