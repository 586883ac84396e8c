"""How a request finds its cheapest good answer."""
