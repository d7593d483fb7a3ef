"""How a model sees an attempt again: protocols, their prompts, and pools of attempts to correct."""
