"""Should you believe a score? Dials that measure it, and the card they make together."""
