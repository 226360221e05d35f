"""Explanations and what-if of random flows, compared with what the programs decide."""
