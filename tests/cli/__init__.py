"""The programs as people run them."""
