"""Tables, one module each, whose parts pages show."""
