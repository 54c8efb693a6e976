"""What a run writes down and shows of itself: log, pictures, curves, its page."""
