"""What `bncli shift-report` shows and draws."""
