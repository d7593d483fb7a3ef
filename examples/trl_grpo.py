"""GRPO of TRL with the rewards of cipo-eval: first answers, or corrections of answers (docs/rewards.md).

    python examples/trl_grpo.py --model Qwen/Qwen3-0.6B --data train.jsonl --reward correction --output trained

Each line of the data is a row: ``prompt`` (a text, or messages), and the columns of the reward: ``solution`` or
``tests``, and for corrections ``attempt`` or ``first_right``.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

from cipo_eval.rewards import code_reward, correction_reward, math_reward

LENGTH = 512
REWARDS = {"math": math_reward, "code": code_reward, "correction": partial(correction_reward, risk=1.0)}


def main() -> GRPOTrainer:
    """Trains as the command line says; returns the trainer, with its log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--reward", choices=REWARDS, default="math")
    parser.add_argument("--output", default="trained")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a completion")
    given = parser.parse_args()
    config = GRPOConfig(
        output_dir=given.output,
        max_steps=given.steps,
        num_generations=given.generations,
        per_device_train_batch_size=given.generations,
        max_completion_length=given.length,
        # where each group is scaled by its own deviation, a penalty for spoiling a right answer has no effect
        scale_rewards="none" if given.reward == "correction" else "group",
        logging_steps=1,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    )
    # what was cut off must have said its answer
    reward = partial(REWARDS[given.reward], max_completion_length=given.length)
    data = load_dataset("json", data_files=given.data, split="train")
    trainer = GRPOTrainer(model=given.model, reward_funcs=reward, args=config, train_dataset=data)
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
