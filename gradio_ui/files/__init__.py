"""Read and write the files of a visitor; no Gradio."""
