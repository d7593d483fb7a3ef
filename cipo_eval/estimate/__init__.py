"""What a run will take, told before it starts: attempts, tokens, GPU hours, disk and money, each with an interval."""
