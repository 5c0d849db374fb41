"""Tables, one module each, whose parts the README and the report show."""
