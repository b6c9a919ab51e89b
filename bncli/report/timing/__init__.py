"""What `bncli bench` shows and writes."""
