"""What a comparison will run, and what it costs: names, configurations, time and disk."""
