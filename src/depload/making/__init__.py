"""From what a source asks for to wheels: resolve, fetch, build, compile."""
