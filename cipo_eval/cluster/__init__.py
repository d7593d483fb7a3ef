"""Actors on a Ray cluster: who works at what, who was lost, and where its work goes."""
