"""The life of the model: gate, evidence, promotion, champion, alias, training jobs."""
