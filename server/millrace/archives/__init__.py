"""Where responses are kept on disk for later requests to continue."""
