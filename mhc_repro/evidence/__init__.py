"""The numbers: what runs measured, judged, summarised and set against each other. Without torch or pictures."""
