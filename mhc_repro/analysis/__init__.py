"""Tables, figures and the report, from run directories alone. Never imports torch."""
