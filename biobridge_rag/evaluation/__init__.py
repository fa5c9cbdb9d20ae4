"""Evaluation: the ranking protocol, its metrics and the baselines that stand beside every figure."""
