"""Every response that runs here or has ended lately: taken in, led through the funnel, kept, swept."""
