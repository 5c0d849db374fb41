"""Tables, figures, pages and the report, from the numbers of `evidence`. Never imports torch."""
