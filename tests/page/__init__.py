"""The page and the JavaScript client."""
