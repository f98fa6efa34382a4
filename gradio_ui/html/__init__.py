"""Build HTML; no Gradio."""
