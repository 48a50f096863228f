"""Forward and backward time of optimisation layers, beside JAXopt and optimistix."""
