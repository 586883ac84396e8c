"""What background judging has found about cheap answers, and what follows from it."""
