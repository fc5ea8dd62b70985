"""How well scorers, and people, predict what people preferred: measured, with intervals, and reported."""
