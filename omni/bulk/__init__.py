"""Any number of media and texts to files or tables of embeddings, in as many goes as it takes, and search over them."""
