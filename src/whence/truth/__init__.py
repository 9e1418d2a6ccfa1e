"""What really happens when training data is left out: retrain banks, and how well scores foretell them."""
