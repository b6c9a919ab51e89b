"""Measuring processes: what they are asked, how they answer, who starts them."""
