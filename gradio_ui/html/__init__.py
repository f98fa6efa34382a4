"""HTML fragments; no Gradio."""
