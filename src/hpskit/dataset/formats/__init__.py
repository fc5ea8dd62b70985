"""The layouts in which data sets of human preference are published, one module for each family."""
