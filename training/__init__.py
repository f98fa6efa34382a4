"""How a model is made: data, families, search, evaluation, compilation."""
