"""Learners whose task has a closed form or is a small convex problem."""
