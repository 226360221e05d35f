"""What explanations and what-if say about random flows against what the programs decide."""
