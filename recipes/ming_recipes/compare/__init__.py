"""What did my training change? `ming compare BASE TUNED`, and a stop if it loses too much."""
