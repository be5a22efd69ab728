"""What a screen shows, as data: words and numbers for cards, tables and bars. Nothing here draws."""
