"""The verifier for programs: extraction in the caller, the program in the sandbox, comparison outside of it."""
