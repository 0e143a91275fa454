"""Tools that look into a model: pictures of its inputs, scores, comparisons."""
