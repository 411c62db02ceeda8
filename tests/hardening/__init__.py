"""What takes hours and is no part of the suite: mutants of the instruments, and random kills of every command."""
