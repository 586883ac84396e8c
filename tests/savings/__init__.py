"""`make bench-savings`: what each lever takes off one mixed bill, in dollars and milliseconds, and at which quality."""
