"""What is measured of a row of trained weights, and how that is run."""
