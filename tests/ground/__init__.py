"""What every room stands on: settings, prices, tokens, origins."""
