"""Jobs inside other programs: one module a program, on what they share."""
