"""Results of several models as one leaderboard: a page to look into, a table for a README, every figure as JSON."""
