"""What the page does, without the page: `app.py` shows it by gradio, which nothing here needs."""
