"""What is shown: committed results beside the published, as tables, pages and figures. No torch here."""
