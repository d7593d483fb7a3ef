"""What is peculiar to LeetCode: its judge, its statements, and inputs made from what they promise."""
