"""Bad and odd inputs with declared outcomes, one table a kind."""
