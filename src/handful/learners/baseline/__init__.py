"""What every method should be compared with: nearest neighbors, frozen encoders, classifiers fitted anew."""
