"""How good a model is: scores, comparison, fairness."""
