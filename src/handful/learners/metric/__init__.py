"""Learners that compare in a learned embedding."""
