"""Downloads a model into a Hugging Face cache, as a step that can be seen."""
